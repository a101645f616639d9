package Test::Hatch::Property;

# Random operations by the API, by virsh and by hand on the host's files, with
# agent and libvirtd killed now and then, and a model of what nobody deleted:
# VMs, the texts in each guest's memory and disk, snapshots and routes.
#
# What a guest may have is a set of "memory/disk".  An answer narrows it; no
# answer, or one that leaves open how far it got, widens it; reading the guest
# leaves the one that is there.

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use Test::Hatch;
use Test::Hatch::Property::Model;
use Test::Hatch::Random;
use Test::More;

our @EXPORT = qw(property_begin property_steps property_end);

my $max_vms = 3;
my $max_snaps = 3;
my %force = (force => JSON::PP::true);

our ($save_dir, %vms, $image, $step, @story, %done, %unsure, $text);


# --- one call, perhaps into the end of agent or libvirtd ---

sub act {
    my ($vm, $method, $path, $body) = @_;
    my $r = api($method, $path, $body);
    say_step("$method $path", $body ? JSON::PP->new->canonical->encode($body)
             : '', '->', $r ? "$r->{status} " . substr $r->{body}, 0, 120
             : 'no answer');
    learn($vm, $method, $path, $r, $body);
    $done{ $r ? int($r->{status} / 100) . 'xx' : 'none' }++;
    # what libvirt cannot do at all is an error of ours
    wrong("$method $path: $r->{status} $r->{body}")
        if $r && $r->{status} == 500 && !$Test::Hatch::Property::by_hand;
    return $r;
}
our $by_hand = 0;

# In the long form libvirtd is killed in the middle of calls, too: a QEMU that
# it had just started may be left over then, which nobody knows.
our $cuts_libvirtd = 0;


sub start_it {
    start_agent(connect => 'qemu:///system',
                env => { HATCH_LOG_LEVEL => 'info', HATCH_STOP_TIMEOUT => 2,
                         HATCH_RESYNC_INTERVAL => 2 });
}

sub kill_agent {
    say_step('kill -9 the agent');
    stop_agent('KILL');
    pause(rand .2) if rand() < .3;
    start_it();
}

# What docs/reliability.md tells an operator to do: of a VM that it had only
# begun to start a libvirtd would think so ever after.
sub heal_libvirtd {
    for my $status (glob '/run/libvirt/qemu/vm_*.xml') {
        next if slurp($status) !~ /<domstatus [^>]*pid='0'/;
        say_step("rm $status");
        unlink $status;
        $done{'half started'}++;
    }
}

sub kill_libvirtd {
    say_step('kill -9 libvirtd');
    my $log = length agent_log();
    stop_libvirtd('KILL');
    wait_until('the agent knows', sub {
        zone()->{libvirt} ne 'connected'
            || substr(agent_log(), $log) =~ /connection to libvirt is lost/;
    });
    unlink '/run/libvirtd.pid';
    heal_libvirtd();
    start_libvirtd();
    wait_until('the agent is connected again',
               sub { zone()->{libvirt} eq 'connected' });
}


# A page whose guest somebody pauses meanwhile would take a minute.
sub impatient {
    my ($route, $path) = @_;
    local $SIG{ALRM} = sub { die "late\n" };
    alarm 10;
    my $r = eval { page($route, $path) };
    alarm 0;
    return $r;
}


# Calls in another process, so that something can end meanwhile.
sub call_meanwhile {
    my ($calls, $meanwhile) = @_;
    my @pids;
    my $n = 0;

    for my $list (@$calls) {
        my $file = "$dir/calls." . $n++;
        my $seed = int rand 1 << 30;
        my $pid = fork // die "fork: $!";
        if (!$pid) {
            srand $seed;
            open my $fh, '>', $file or POSIX::_exit(1);
            $fh->autoflush(1);
            for my $call (@$list) {
                my ($vm, $method, $path, $body, $query) = @$call;
                my $r = $query ? impatient($path, $query)
                               : api($method, $path, $body);
                print $fh JSON::PP->new->canonical->encode(
                    [$call, $r && { status => $r->{status} + 0,
                                    body => $r->{body}, json => $r->{json} }]),
                    "\n";
            }
            POSIX::_exit(0);
        }
        push @pids, $pid;
    }
    $meanwhile->();
    waitpid $_, 0 for @pids;
    return map { map JSON::PP->new->decode($_), split /\n/, slurp($_) }
           map "$dir/calls.$_", 0 .. $n - 1;
}


# --- operations by the API ---

sub new_vm {
    my $r = act(undef, POST => '/vms', {
        image_id => $image, idle_timeout => undef, save_after => undef });
    return if !$r || $r->{status} != 201;
    my $id = $r->{json}{id};
    first_route($id);
    return $id;
}

sub first_route {
    my ($id) = @_;
    my $name = 'p' . ++$text . 'x' . int rand 1e6;
    act($id, POST => "/vms/$id/routes",
        { target_port => 80, subdomain => $name });
    $vms{$id}{route} = $name;
}

sub any_call {
    my ($id) = @_;
    my $vm = $vms{$id};
    my @snaps = oldest(keys %{ $vm->{snaps} });
    my @more = grep $vm->{routes}{$_} ne $vm->{route},
               oldest(keys %{ $vm->{routes} });
    my $what = rand 100;

    return [$id, POST => "/vms/$id/start"] if $what < 14;
    return [$id, POST => "/vms/$id/stop", { %force }] if $what < 24;
    return [$id, POST => "/vms/$id/pause"] if $what < 34;
    return [$id, POST => "/vms/$id/resume"] if $what < 40;
    if ($what < 60 && @snaps < $max_snaps) {
        return [$id, POST => "/vms/$id/snapshot", { keep_running =>
                $what < 50 ? JSON::PP::true : JSON::PP::false }];
    }
    return [$id, POST => "/vms/$id/restore", { snapshot_id => pick(@snaps) }]
        if $what < 74 && @snaps;
    return [$id, DELETE => '/snapshots/' . pick(@snaps)]
        if $what < 80 && @snaps;
    return [$id, DELETE => '/routes/' . pick(@more)] if $what < 84 && @more;
    return [$id, POST => "/vms/$id/routes", { target_port => 1 + int rand 99 }]
        if $what < 88;
    return [$id, PATCH => "/vms/$id", { name => 'n-' . int rand 1e6 }]
        if $what < 94;
    return [$id, PATCH => "/vms/$id", {
        idle_timeout => pick(undef, undef, 1, 2),
        save_after => pick(undef, 1) }];
}

sub by_api {
    my $id = some();
    my $what = rand 100;
    return write_guest($id) if $what < 30;
    return look($id, 'a look') if $what < 36;
    return new_vm() if $what < 40 && keys %vms < $max_vms;
    if ($what < 42 && keys %vms > 2) {
        return act($id, DELETE => "/vms/$id");
    }
    # a restore is refused while it runs
    my $call = any_call($id);
    act($id, POST => "/vms/$id/stop", { %force })
        if $call->[2] =~ /restore$/ && rand() < .7;
    return act(@$call);
}


# --- several clients at once ---

sub crowd {
    my ($kill) = @_;
    my (%write, %stopped, @calls);

    for my $client (1 .. 2 + int rand 2) {
        push @calls, [map {
            my $id = some();
            my $new = 't' . ++$text;
            rand() < .3 ? [$id, 'GET', $vms{$id}{route}, $new,
                           "/cgi-bin/state?$new"] : any_call($id);
        } 1 .. 3];
    }
    my @results = call_meanwhile(\@calls, $kill ? sub {
        pause(rand 1);
        $kill->();
    } : sub { });

    # all that may be, whatever the order was
    my %old = map { $_ => [keys %{ $vms{$_}{may} },
                           map keys %$_, values %{ $vms{$_}{snaps} }] }
              keys %vms;
    for (@results) {
        my ($call, $r) = @$_;
        my ($id, $method, $path, $body, $query) = @$call;
        say_step("client: $method", $query ? "$id$query" : $path, '->',
                 $r ? "$r->{status} " . substr $r->{body}, 0, 60 : 'no answer');
        $r->{cut} = 1 if $r && $kill;
        push @{ $old{$id} }, "$body/$body" if $query;
        $stopped{$id} = 1 if $path =~ /stop$/;
        learn($id, $method, $path, $r, $body) if !$query;
    }
    for my $id (keys %vms) {
        my %memory = map { m{^(.*)/} ? ($1 => 1) : () } @{ $old{$id} };
        my %disk = map { m{/(.*)} ? ($1 => 1) : () } @{ $old{$id} };
        $memory{''} = 1 if $stopped{$id};
        my @all = map { my $m = $_; map "$m/$_", keys %disk } keys %memory;
        may_set($vms{$id}, @all);
        # of the snapshots only the new ones are not known
        for my $snap (map $_->[1]{json}{id} // (), grep
                      $_->[0][2] =~ /snapshot$/ && $_->[1], @results) {
            $vms{$id}{snaps}{$snap} = { map { $_ => 1 } @all }
                if $vms{$id}{snaps}{$snap};
        }
        $vms{$id}{unsure_snap} = { map { $_ => 1 } @all }
            if $vms{$id}{unsure_snap};
    }
    settle();
    look($_, 'after the crowd') for sort keys %vms;
}


# --- by virsh ---

sub virsh_on {
    my ($id, $what) = @_;
    my $out = virsh("$what $id");
    my $ok = $? == 0;
    say_step("virsh $what $id ->", $ok ? 'done' : substr $out, 0, 90);
    return $ok;
}

sub by_virsh {
    my $id = some();
    my $what = pick(qw(suspend resume destroy managedsave managedsave
                       rename undefine));
    return rename_domain($id) if $what eq 'rename';
    return undefine_domain($id) if $what eq 'undefine';
    lost_memory($vms{$id}, 1) if virsh_on($id, $what) && $what eq 'destroy';
}

sub is_off { return virsh("domstate $_[0]") =~ /^shut off/ }

sub back {
    my ($id) = @_;
    wait_until("$id is back", sub {
        (api('GET', "/vms/$id") // { status => 0 })->{status} == 200
    }) or wrong("$id does not come back");
}

sub rename_domain {
    my ($id) = @_;
    act($id, POST => "/vms/$id/stop", { %force }) if !is_off($id);
    virsh_on($id, 'domrename --new-name mine --domain') or return;
    kill_agent() if rand() < .3;
    wait_until("$id is gone", sub { api('GET', "/vms/$id")->{status} == 404 })
        or wrong("$id is there with another name");
    virsh("domrename mine $id");
    wrong("domrename back: $?") if $?;
    back($id);
}

sub undefine_domain {
    my ($id) = @_;
    act($id, POST => "/vms/$id/stop", { %force });
    return if !is_off($id);
    my $xml = virsh("dumpxml --inactive $id");
    virsh_on($id, 'undefine') or return;
    pick(sub { }, sub { }, \&kill_agent, \&kill_libvirtd)->();
    wait_until("$id is gone", sub { api('GET', "/vms/$id")->{status} == 404 })
        or wrong("$id is there without a domain");
    write_file("$dir/again.xml", $xml);
    my $out = virsh("define $dir/again.xml");
    wrong("define again: $out") if $?;
    back($id);
}


# --- by hand ---

# What somebody may do while a file is not what it was: no stop, no restore
# and no delete, for these say that the memory or the disk are not wanted.
sub meanwhile {
    my ($id) = @_;
    local $by_hand = 1;
    for (0 .. int rand 3) {
        my $what = rand 100;
        if ($what < 40) { act($id, POST => "/vms/$id/start") }
        elsif ($what < 60) {
            my $r = page($vms{$id}{route}, '/cgi-bin/state');
            my $have = has($r);
            say_step("ask $id ->", $r ? $r->{status} : 'no answer',
                     $have // '');
            wrong("$id has $have meanwhile")
                if defined $have && !$vms{$id}{may}{$have};
        }
        elsif ($what < 70) { act($id, POST => "/vms/$id/pause") }
        elsif ($what < 80) { act($id, POST => "/vms/$id/snapshot",
            { keep_running => JSON::PP::true })
            if keys %{ $vms{$id}{snaps} } < $max_snaps }
        elsif ($what < 90) { kill_agent() }
        else { act($id, PATCH => "/vms/$id", { name => 'h-' . int rand 1e6 }) }
    }
}

sub asleep {
    my ($id) = @_;
    return (api('GET', "/vms/$id")->{json}{state} // '') eq 'snapshotted';
}

# Puts it to sleep by one of the ways, so that there is a file to lose.
sub put_to_sleep {
    my ($id) = @_;
    return 1 if asleep($id);
    look($id, 'awake');
    act($id, PATCH => "/vms/$id",
        { idle_timeout => undef, save_after => undef });
    if (rand() < .5 && keys %{ $vms{$id}{snaps} } < $max_snaps) {
        act($id, POST => "/vms/$id/snapshot");
    } else {
        virsh_on($id, 'managedsave');
    }
    return wait_until("$id sleeps", sub { asleep($id) });
}

sub move_away {
    my ($id, $file) = @_;
    my $away = "$dir/away";
    if ($file =~ /^\Q$save_dir/) { $away = "$save_dir/away" }
    -e $file && rename $file, $away or return;
    say_step("$file is moved away");
    meanwhile($id);
    wrong("$file was made anew") if -e $file;
    rename $away, $file or return wrong("it cannot be put back: $!");
    say_step("$file is back");
}

sub take_permission {
    my ($id, $file) = @_;
    my @stat = stat $file or return;
    chmod 0, $file;
    say_step("$file may not be read");
    meanwhile($id);
    # libvirtd may read all, and memory that was restored has no file
    return look($id, 'awake all the same')
        if $file eq saved($id) && !-e $file && !asleep($id);
    return wrong("$file is gone") if !-e $file;
    wrong("$file is another one") if (stat $file)[1] != $stat[1];
    chmod $stat[2] & 07777, $file;
    say_step("$file may be read");
}

sub hold_lock {
    my ($id) = @_;
    my $sock = "$dir/nbd.sock";
    unlink $sock;
    # off, for else its QEMU has the lock
    is_off($id) or return;
    my $pid = spawn("$dir/logs/lock.out", 'qemu-nbd', '--persistent',
                    '--format', 'qcow2', '--socket', $sock, vm_disk($id));
    wait_until('the disk is locked or not',
               sub { -S $sock || slurp("/proc/$pid/stat") =~ /\) Z / });
    say_step("the disk of $id is locked");
    meanwhile($id);
    kill 'KILL', $pid;
    reap($pid);
    say_step("the disk of $id is free");
}

sub damage {
    my ($id) = @_;
    put_to_sleep($id) or return;
    my $file = saved($id);
    my $size = -s $file or return wrong("$id sleeps without memory");
    my @before = glob "$file.*";
    my $to = pick(0, 50, int($size / 2));
    truncate $file, $to or return wrong("truncate: $!");
    say_step("$file is cut to $to bytes");
    pick(sub { }, \&kill_agent)->();
    lost_memory($vms{$id}, 1);
    look($id, 'damaged memory');
    my @after = glob "$file.*";
    @after == @before + 1 or wrong("the damaged memory of $id is not kept");
    agent_log() =~ /$id: its saved memory cannot be restored, it boots without/
        or wrong("nobody is told of the damage of $id");
    $vms{$id}{aside}++;
}

sub by_hand {
    my $id = some();
    my @snaps = oldest(keys %{ $vms{$id}{snaps} });
    my $what = rand 100;

    act($id, POST => "/vms/$id/stop", { %force }) if $what < 50 && rand() < .3;
    return move_away($id, vm_disk($id)) if $what < 15;
    return move_away($id, "$dir/state/seeds/$id.iso") if $what < 25;
    return take_permission($id, vm_disk($id)) if $what < 40;
    return hold_lock($id) if $what < 50;
    if ($what < 65) {
        put_to_sleep($id) or return;
        move_away($id, saved($id));
        return look($id, 'its memory is back');
    }
    if ($what < 80 && @snaps) {
        my $snap = pick(@snaps);
        return move_away($id, "$dir/state/snapshots/$snap");
    }
    return damage($id) if $what < 90;
    put_to_sleep($id) or return;
    return take_permission($id, saved($id));
}


# A call, and the end of agent or libvirtd in the middle of it.
sub into_end {
    my $id = some();
    my $kill = !$cuts_libvirtd || rand() < .6 ? \&kill_agent
             : \&kill_libvirtd;
    my $call = rand() < .05 && keys %vms < $max_vms
        ? [undef, POST => '/vms', { image_id => $image, idle_timeout => undef }]
        : rand() < .05 && keys %vms > 2 ? [$id, DELETE => "/vms/$id"]
        : any_call($id);
    my ($result) = call_meanwhile([[$call]], sub { pause(rand .5); $kill->() });
    my $r = $result->[1];
    $r->{cut} = 1 if $r;
    say_step("$call->[1] $call->[2] ->",
             $r ? "$r->{status} " . substr $r->{body}, 0, 120 : 'no answer');
    learn(@$call[0 .. 2], $r, $call->[3]);
    settle();
    for my $new (grep !$vms{$_}{route}, keys %vms) { first_route($new) }
}


# --- the whole ---

sub property_begin {
    mkdir "$dir/images";
    system('cp', "$Test::Hatch::build/image/vmlinuz",
           "$Test::Hatch::build/image/initrd", "$dir/images") == 0 or die;
    system('qemu-img', 'create', '-q', '-f', 'qcow2', "$dir/images/base.qcow2",
           '8M') == 0 or die;
    start_it();
    start_nginx();
    $image = api('POST', '/images', {
        kernel_path => 'vmlinuz', initrd_path => 'initrd',
        rootfs_path => 'base.qcow2', boot_args => 'console=ttyS0 quiet',
    })->{json}{id};
    $step = 0;
    new_vm() for 1, 2;
}


# property_steps(N): stops at the first step that has found something.
sub property_steps {
    my ($steps) = @_;

    for (1 .. $steps) {
        $step++;
        my $what = rand 100;
        my $kind = $what < 50 ? 'api' : $what < 66 ? 'virsh'
                 : $what < 84 ? 'hand' : $what < 91 ? 'kill'
                 : $what < 96 ? 'crowd' : 'crowd with an end';
        new_vm() while keys %vms < 2;
        $done{$kind}++;
        say_step("-- $kind");
        $kind eq 'api' ? by_api() : $kind eq 'virsh' ? by_virsh()
            : $kind eq 'hand' ? by_hand() : $kind eq 'kill' ? into_end()
            : crowd($kind eq 'crowd' ? undef
                    : $cuts_libvirtd ? pick(\&kill_agent, \&kill_libvirtd)
                    : \&kill_agent);
        return if !Test::More->builder->is_passing;
    }
    note(join ', ', map "$_: $done{$_}", sort keys %done);
}


# Everything is there, and there is nothing else.
sub property_end {
    settle();
    my %slept = map { $_->{id} => 1 } grep $_->{state} eq 'snapshotted',
                @{ api('GET', '/vms')->{json} };
    ok(-s saved($_), "$_ slept with its memory") for sort keys %slept;

    my $there = agree(\&libvirt_states);
    is("@{[sort keys %$there]}", "@{[sort keys %vms]}",
       'each VM that nobody deleted, and no other');
    my %routes = map { $_->{id} => "$_->{vm_id} $_->{subdomain}" }
                 @{ api('GET', '/routes?limit=1000')->{json} };
    my %ours;
    for my $id (keys %vms) {
        $ours{$_} = "$id $vms{$id}{routes}{$_}" for keys %{ $vms{$id}{routes} };
    }
    is_deeply(\%routes, \%ours, 'each has its routes');
    orphans();

    for my $id (sort keys %vms) {
        my @list = map $_->{id}, @{ api('GET', "/vms/$id/snapshots")->{json} };
        is("@{[sort @list]}", "@{[sort keys %{ $vms{$id}{snaps} }]}",
           "$id has its snapshots");
        my @aside = glob saved($id) . '.*';
        cmp_ok(scalar @aside, '>=', $vms{$id}{aside},
               'what was damaged is kept');
        look($id, 'at the end');
        for my $snap (sort keys %{ $vms{$id}{snaps} }) {
            act($id, POST => "/vms/$id/stop", { %force });
            my $r = act($id, POST => "/vms/$id/restore",
                        { snapshot_id => $snap });
            is($r->{status}, 200, "$snap can be restored") or diag $r->{body};
            look($id, 'restored');
        }
    }
    is(api('DELETE', "/vms/$_")->{status}, 200, 'delete') for sort keys %vms;
    my $left = api('GET', '/orphans');
    if ($left->{status} == 200) {
        is(api('DELETE', "/orphans/$_->{id}")->{status}, 204, 'an orphan, too')
            for @{ $left->{json} };
    }
    is_deeply([grep !m{/images/}, glob "$dir/state/*/*"], [],
              'no file is left');
    diag(join "\n", @story) if !Test::More->builder->is_passing;
}


# What belongs to no VM is listed; here that is memory put aside alone.
sub orphans {
    my $r = api('GET', '/orphans');
    return if $r->{status} == 404;      # an agent that has no list of them
    is_deeply([grep $_->{kind} ne 'saved_memory', @{ $r->{json} }], [],
              'no orphan but saved memory');
    my %listed = map { $_->{id} => 1 } @{ $r->{json} };
    my %aside = map { m{(vm_\w+)\.save\.} ? ($1 => 1) : () }
                glob "$save_dir/*.save.*";
    is("@{[sort keys %listed]}", "@{[sort keys %aside]}",
       'memory put aside is listed');
}


1;
