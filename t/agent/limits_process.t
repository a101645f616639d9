#!/usr/bin/perl

# What the agent is given by whoever starts it: file descriptors, an umask;
# and its sockets, which may not be its own any more when it ends.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;
use IO::Select;
use Time::HiRes qw(time);

my $agent;

# The agent as a shell starts it after $setup.
sub start_after {
    my ($setup) = @_;
    my $build = $Test::Hatch::build;
    my $log = "$dir/logs/agent.log";
    $ENV{HATCH_DEFAULT_KERNEL_PATH} = "$build/image/vmlinuz";
    $ENV{HATCH_DEFAULT_INITRD_PATH} = "$build/image/initrd";
    $ENV{HATCH_DEFAULT_MEM_MIB} = 128;
    $agent = Test::Hatch::spawn($log, 'sh', '-c', "$setup; exec \"\$@\"", 'sh',
        "$build/hatch-agent", '--connect', 'test:///default',
        '--zone', "$dir/run/zone", '--socket', "$dir/run/agent.sock",
        '--wake-socket', "$dir/run/wake.sock", '--state-dir', "$dir/state",
        '--image-dir', "$dir/images");
    wait_until('it knows its VMs', sub {
        my $r = eval { api('GET', '/vms') };
        $r && $r->{status} == 200;
    });
}

sub stop { Test::Hatch::kill_pid('TERM', $agent);
           return Test::Hatch::reap($agent) }

sub soft_limit {
    my ($n) = slurp("/proc/$agent/limits") =~ /^Max open files\s+(\d+)/m;
    return $n;
}

# Seconds of processor that it has used.
sub used {
    my @stat = split ' ', slurp("/proc/$agent/stat");
    return ($stat[13] + $stat[14]) / 100;
}

sub descriptors { return scalar(() = glob "/proc/$agent/fd/*") }

# --- the soft limit ---

start_after('ulimit -Sn 1024; ulimit -Hn 4096');
is(soft_limit(), 4096, 'the soft limit is raised to the hard one');
stop();
start_after('ulimit -Sn 1024; ulimit -Hn 1024');
is(soft_limit(), 1024, 'which may be as low');
stop();
start_after('ulimit -Sn 1024; ulimit -Hn 4096');

# --- none is left ---

my $few = descriptors();
for my $case (['the API', "$dir/run/agent.sock", qr/connections to the API/],
              ['the wake socket', "$dir/run/wake.sock",
               qr/connections to the wake socket/])
{
    my ($what, $path, $words) = @$case;
    my $before = () = agent_log() =~ /$words/g;
    wait_until('connections have ended', sub { descriptors() <= $few }, 10);
    system('prlimit', '--pid', $agent, '--nofile=' . descriptors() . ':4096')
        == 0 or die;
    my @waiting = map Test::Hatch::connect_to($path), 1 .. 3;
    wait_until("$what: it says so", sub { agent_log() =~ $words });
    my ($began, $was) = (time, used());
    wait_until('a second passes', sub { time - $began > 1 });
    cmp_ok(used() - $was, '<', .3, 'and does not spin');
    my $n = () = agent_log() =~ /$words/g;
    is($n - $before, 1, 'once');
    ok(-e "/proc/$agent", 'it lives');
    system('prlimit', '--pid', $agent, '--nofile=4096:4096') == 0 or die;
    close $_ for @waiting;
    is(api('GET', '/vms')->{status}, 200, 'and goes on when there are some');
}
stop();

# --- probes ---

# a guest that never answers: nobody has its address
system('ip link add hatch0 type bridge && ip address add 10.201.0.1/20 '
       . 'dev hatch0 && ip link set hatch0 up && '
       . 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1') == 0 or die;
start_after('ulimit -n 400');
my $vm = create_vm({ idle_timeout => undef });
$few = descriptors();
my $worker = Test::Hatch::connect_to("$dir/run/wake.sock") or die;
my $format = 'L S S Q L L S S L a24 Q';

my ($text, %ready) = ('');

# Reads what has been answered: who does not read is not answered any more.
sub answers {
    while (IO::Select->new($worker)->can_read(0)) {
        sysread $worker, $text, 64 - length $text, length $text or return;
        next if length $text < 64;
        my @m = unpack $format, $text;
        $ready{$m[3]} = 1 if $m[1] == 3;
        $text = '';
    }
}

for my $port (1 .. 500) {
    answers();
    syswrite $worker, pack $format, 0x32574148, 1, 0, $port, 30_000, 0, $port,
                           0, 0, $vm->{id}, 0;
}
my $most = 0;
my $began = time;
wait_until('500 ports are probed', sub {
    answers();
    my $n = descriptors() - $few;
    $most = $n if $n > $most;
    return time - $began > 2;
});
cmp_ok($most, '>', 40, 'they are');
cmp_ok($most, '<=', 103, 'with a quarter of the descriptors');
is(api('GET', '/vms')->{status}, 200, 'so the API has some');

# one of them answers: turns are taken, so it is found
system('ip', 'address', 'add', "$vm->{guest_ip}/32", 'dev', 'lo') == 0 or die;
my $service = IO::Socket::INET->new(LocalAddr => $vm->{guest_ip},
                                    LocalPort => 77, Listen => 8) || die;
wait_until('a service that answers is found among them', sub {
    answers();
    return $ready{77};
}, 20);
is_deeply([keys %ready], [77], 'and no other');
close $service;
stop();

# --- sockets that are another's by now ---

start_after('true');
my @others = map {
    unlink "$dir/run/$_.sock" or die $!;
    IO::Socket::UNIX->new(Local => "$dir/run/$_.sock", Listen => 1) || die;
} 'agent', 'wake';
is(stop(), 0, 'an agent whose sockets are not its own any more ends');
ok(-S "$dir/run/$_.sock", "and $_.sock stays") for 'agent', 'wake';
undef @others;
start_after('true');
is(stop(), 0, 'one whose sockets are');
ok(!-e "$dir/run/$_.sock", "removes $_.sock") for 'agent', 'wake';

# --- modes ---

# Files and directories that the agent made, and their modes.
sub modes {
    my ($vm) = @_;
    my %modes;
    for my $path (split /\n/, qx(find '$dir/run' '$dir/state' '$dir/images')) {
        next if $path =~ /\.(?:pid|log)$|logs|zone\.activity/;
        my $name = $path =~ s/^\Q$dir\E//r =~ s/\Q$vm\E/VM/r;
        $modes{$name} = sprintf '%04o', (lstat $path)[2] & 07777
            if $name =~ /VM|^.run.|state/;
    }
    return \%modes;
}

my %by_mask;
for my $mask ('022', '077', '000', '0777') {
    system('rm', '-rf', "$dir/state", "$dir/run/zone") == 0 or die;
    start_after("umask $mask");
    mkdir "$dir/images";
    system('qemu-img', 'create', '-q', '-f', 'qcow2', "$dir/images/d.qcow2",
           '4M') == 0 or die if !-e "$dir/images/d.qcow2";
    chmod 0644, "$dir/images/d.qcow2";
    is(api('POST', '/images', { id => 'img_d', rootfs_path => 'd.qcow2' })
       ->{status}, 201, "umask $mask: an image");
    is(api('POST', '/templates', { name => 't' })->{status}, 201,
       'a template');
    my $vm = create_vm({ name => 'm', image_id => 'img_d' });
    my $template = api('GET', '/templates')->{json}[0]{id};
    $by_mask{$mask} = modes($vm->{id});
    delete $by_mask{$mask}{$_} for grep /pending/, keys %{ $by_mask{$mask} };
    $by_mask{$mask}{ s/\Q$template\E/TPL/r } = delete $by_mask{$mask}{$_}
        for grep /\Q$template/, keys %{ $by_mask{$mask} };
    is(api('DELETE', "/vms/$vm->{id}")->{status}, 200, 'all goes');
    stop();
}
is_deeply($by_mask{$_}, $by_mask{'022'}, "umask $_: the same modes")
    for '077', '000', '0777';

my $modes = $by_mask{'022'};
is($modes->{"/run/$_.sock"}, '0660', "$_.sock") for 'agent', 'wake';
is($modes->{'/run/zone'}, '0640', 'the zone');
is($modes->{'/state'}, '0711', 'QEMU\'s user may go through state_dir');
ok(defined $modes->{'/state/disks/VM.qcow2'}, 'a disk');
my @open = grep { $modes->{$_} =~ /[2367]$/ } keys %$modes;
is("@open", '', 'nothing may be written by others');

done();
