#!/usr/bin/perl

# A memory image is used once, with the disk of its instant, or not at all: the
# host's files are changed, other programs start and resume the VM while no agent
# looks.  The guest goes on with its own memory, or it boots, and the log says why
# and where the image is kept.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

real_disk();
guest_files();
guest_agent();
start_nginx();
my $image = guest_image();
my $memory = "$dir/state/memory";

my %off = (idle_timeout => undef, park_after => undef, save_after => undef);
my (%vm, %ip);
for my $name ('one', 'two') {
    my $new = create_vm({ image_id => $image, memory => 'image',
                          mem_mib => 128, %off });
    ($vm{$name}, $ip{$name}) = @$new{'id', 'guest_ip'};
    create_route($vm{$name}, $name);
}

sub patch {
    my ($name, %fields) = @_;
    is(api('PATCH', "/vms/$vm{$name}", { %off, %fields })->{status}, 200,
       'PATCH');
}
sub get { return (api('GET', "/vms/$vm{$_[0]}") // {})->{json} // {} }
sub guest { return guest_state(@_) }

# past nginx and the agent
sub directly {
    my ($name, $text) = @_;
    my $r;
    wait_until('the guest answers', sub {
        $r = http("$ip{$name}:80", 'GET', "/cgi-bin/state?$text");
        return $r && $r->{status} == 200;
    }, 90);
    return $r->{body};
}

sub sleeps {
    my ($name, $text) = @_;
    is(guest($name, $text), "$text/$text", "$text: before");
    patch($name, idle_timeout => 0.3, save_after => 0.3);
    wait_until('it sleeps', sub { get($name)->{state} eq 'snapshotted' }, 120);
    patch($name);
}

sub parks {
    my ($name, $text) = @_;
    is(guest($name, $text), "$text/$text", "$text: before");
    patch($name, idle_timeout => 0.3, park_after => 0.3);
    wait_until('it is parked', sub { get($name)->{parked} }, 120);
    patch($name);
}

sub boots {
    my ($text, $why, $disk) = @_;
    is(guest('one'), '/' . ($disk // $text), "$text: it boots");
    like(agent_log(), $why, 'and the log says why');
    ok(scalar(() = glob "$memory/$vm{one}.*.aside-*"), 'the image is kept aside');
    unlink glob "$memory/*.aside-*";
}

sub flip {
    my ($path, $at) = @_;
    open my $f, '+<', $path or die "$path: $!";
    seek $f, $at, 0;
    read $f, my $byte, 1;
    seek $f, $at, 0;
    print $f chr(ord($byte) ^ 1);
    close $f or die $!;
}

# --- files ---

my $one = "$memory/$vm{one}";
my %wrong = (
    'memory cut' => sub { truncate "$one.ram", 64 << 20 },
    'memory with a bit changed' => sub { flip("$one.ram", 20 << 20) },
    'devices with a bit changed' => sub { flip("$one.devices", 5000) },
    'firmware with a bit changed' => sub { flip("$one.firmware", 5000) },
    'another VM\'s memory' => sub {
        rename "$one.ram", "$one.x" or die;
        system('cp', "$memory/$vm{two}.ram", "$one.ram") == 0 or die;
        unlink "$one.x";
    },
    'a record that is none' => sub { write_file("$one.json", "valid\n{") },
    'a disk that has gone on' =>
        sub { system("qemu-io -c 'write -P 7 1M 512' "
                     . "$dir/state/disks/$vm{one}.qcow2 >/dev/null") },
);

sleeps('two', 'another');
my $n = 0;
for my $what (sort keys %wrong) {
    my $text = 'file' . ++$n;
    sleeps('one', $text);
    $wrong{$what}->();
    diag($what);
    boots($text, qr/its memory image cannot be used, it boots without: /);
}
is(guest('two'), 'another/another', 'the other one is as it was');

# one that cannot be read now is kept
sleeps('one', 'kept');
rename "$one.devices", "$one.away" or die;
my $r = api('POST', "/vms/$vm{one}/start");
is($r->{status}, 503, 'devices away') or diag $r->{body};
like($r->{json}{error}, qr/is kept, .*\.devices/, 'the image is kept');
rename "$one.away", "$one.devices" or die;
is(guest('one'), 'kept/kept', 'back: it goes on');

# an older instant, with all of its files
sleeps('one', 'older');
system("cp -a $one.* $dir/images/") == 0 or die;
is(guest('one', 'newer'), 'newer/newer', 'it goes on');
sleeps('one', 'newest');
system("cp -a $dir/images/$vm{one}.* $memory/") == 0 or die;
boots('newest', qr/its memory image cannot be used/);

# --- other programs, while there is no agent ---

sleeps('one', 'started');
stop_agent();
virsh("start $vm{one}");
like(directly('one', 'theirs'), qr/^memory theirs\ndisk theirs$/m,
     'another program starts it');
guest_agent();
wait_until('the agent sees it', sub { get('one')->{state} eq 'running' }, 30);
is(guest('one'), 'theirs/theirs', 'it goes on');
like(agent_log(), qr/another program has started it without its memory/,
     'the log says so');
ok(scalar(() = glob "$one.*.aside-*"), 'the image is kept aside');
unlink glob "$memory/*.aside-*";

virsh("destroy $vm{one}");
is(guest('one'), '/theirs', 'it boots');

sleeps('one', 'ended');
stop_agent();
virsh("start $vm{one}");
directly('one', 'gone');
virsh("destroy $vm{one}");
guest_agent();
boots('ended', qr/\.qcow2" has been changed since/, 'gone');

parks('one', 'resumed');
stop_agent();
virsh("resume $vm{one}");
like(directly('one', 'on'), qr/^memory on$/m, 'another program resumes it');
guest_agent();
wait_until('the agent sees it', sub { get('one')->{state} eq 'running' }, 30);
wait_until('its image is used', sub { slurp("$one.json") =~ /^used/ }, 30);
is(guest('one'), 'on/on', 'it goes on');
kill 'KILL', qemu_pid($vm{one});
wait_until('it has ended', sub { get('one')->{state} ne 'running' }, 30);
is(guest('one'), '/on', 'killed: it boots');

parks('one', 'parked');
stop_agent();
virsh("resume $vm{one}");
directly('one', 'lost');
kill 'KILL', qemu_pid($vm{one});
wait_until('libvirt sees it', sub { virsh("domstate $vm{one}") =~ /shut off/ });
guest_agent();
boots('parked', qr/\.qcow2" has been changed since/, 'lost');

# libvirt's own save, of one that is parked
parks('one', 'saved');
virsh("managedsave $vm{one}");
wait_until('it sleeps', sub { get('one')->{state} eq 'snapshotted' }, 60);
is(guest('one', 'after'), 'after/after', 'it wakes from that');
is(guest('one'), 'after/after', 'and goes on');
kill 'KILL', qemu_pid($vm{one});
wait_until('it has ended', sub { get('one')->{state} ne 'running' }, 30);
is(guest('one'), '/after', 'its image was of before: it boots');

# stopped means stopped
parks('one', 'stopped');
is(api('POST', "/vms/$vm{one}/stop", { force => JSON::PP::true })
   ->{json}{state}, 'stopped', 'stopped');
is(guest('one'), '/stopped', 'it boots');

allow_log(qr/its memory image cannot be used/, qr/another program has started/,
          qr/\[error\].*(?:prematurely closed|refused|reset by|connect\(\) failed)/,
          qr/\[error\].*timed out/, qr/cannot be woken|cannot wake/);
done();
