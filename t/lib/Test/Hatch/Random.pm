package Test::Hatch::Random;

# Random API calls by several clients at once, and whether libvirt, the
# agent's answers, the zone and the files agree afterwards.

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use Test::Hatch ();
use Test::More;

our @EXPORT = qw(random_calls agree libvirt_states);

*api = \&Test::Hatch::api;


sub pick { return $_[rand @_] }

# An answer that is not a list (the agent is down) has none.
sub ids {
    my $list = (api('GET', '/vms') // {})->{json};
    return ref $list eq 'ARRAY' ? map $_->{id}, @$list : ();
}

sub snapshots {
    my ($vm) = @_;
    my $list = (api('GET', "/vms/$vm/snapshots") // {})->{json};
    return ref $list eq 'ARRAY' ? map $_->{id}, @$list : ();
}


# One call: method, path, body.
sub call {
    my ($max, $image) = @_;
    my @ids = ids();
    my $id = pick(@ids) // 'vm_aaaaaaaaaaaaaaaa';
    my $bool = sub { $_[0] ? JSON::PP::true : JSON::PP::false };
    my $what = rand 100;

    if ($what < 22 && @ids < $max) {
        return POST => '/vms', {
            mem_mib => 128,
            (rand() < .4 ? (image_id => $image) : ()),
            (rand() < .3 ? (user_data => "#cloud-config\n") : ()),
            (rand() < .3 ? (idle_timeout => .5 + int rand 10) : ()),
        };
    }
    return DELETE => "/vms/$id" if $what < 30;
    return POST => "/vms/$id/start" if $what < 42;
    return POST => "/vms/$id/stop", { force => $bool->(1) } if $what < 50;
    return POST => "/vms/$id/pause" if $what < 58;
    return POST => "/vms/$id/resume" if $what < 64;
    return POST => "/vms/$id/snapshot", { keep_running => $bool->(rand() < .5) }
        if $what < 74;
    return POST => "/vms/$id/restore" if $what < 78;
    if ($what < 84) {
        my $snap = pick(snapshots($id)) // 'snap_aaaaaaaaaaaaaaaa';
        return POST => "/vms/$id/restore", { snapshot_id => $snap };
    }
    if ($what < 88) {
        my $snap = pick(snapshots($id)) // 'snap_aaaaaaaaaaaaaaaa';
        return DELETE => "/snapshots/$snap";
    }
    return PATCH => "/vms/$id", { name => 'n-' . int rand 30 } if $what < 92;
    return PATCH => "/vms/$id", { mem_mib => 128 + int rand 2 }
        if $what < 95;
    return GET => '/vms?state=running,paused&limit=5' if $what < 97;
    return GET => "/vms/$id/metrics";
}


sub complain {
    my ($bad, $text) = @_;
    open my $fh, '>>', $bad or return;
    print $fh "$text\n";
}


sub client {
    my ($bad, %opt) = @_;

    for (1 .. $opt{calls} / $opt{clients}) {
        my ($method, $path, $body) = call($opt{vms}, $opt{image});
        my $r = api($method, $path, $body);
        next if $r && $r->{status} < 500;
        if (!$opt{outages}) {
            complain($bad, "$method $path: "
                     . ($r ? "$r->{status} $r->{body}" : 'no answer'));
            next;
        }
        Test::Hatch::wait_until('all are back', sub {
            Test::Hatch::zone()->{libvirt} eq 'connected'
                && Test::Hatch::connect_to("$Test::Hatch::dir/run/agent.sock");
        });
    }
}


# random_calls(clients => 6, calls => 300, vms => 20, image => ID, seed => N):
# true if no client saw an answer of 500 or more, or none.  With outages => 1
# those are expected, and a client waits then until agent and libvirt are back.
sub random_calls {
    my (%opt) = @_;
    my ($bad, @pids) = ("$Test::Hatch::dir/bad");

    for my $client (1 .. $opt{clients}) {
        my $pid = fork // die;
        if (!$pid) {
            srand $opt{seed} * 100 + $client;
            eval { client($bad, %opt); 1 } or complain($bad, "died: $@");
            POSIX::_exit(0);
        }
        push @pids, $pid;
    }

    waitpid $_, 0 for @pids;
    my $text = Test::Hatch::slurp($bad);
    diag($text) if $text ne '';
    return $text eq '';
}


sub files {
    my ($folder, $suffix) = @_;
    return sort map m{([^/]+?)\Q$suffix\E$},
           glob "$Test::Hatch::dir/state/$folder/*$suffix";
}


# What libvirt itself says: { id => state }, by our names of the states.
sub libvirt_states {
    my %states;
    for my $id (grep /^vm_/,
                split ' ', Test::Hatch::virsh('list --all --name'))
    {
        my ($state, $reason) = Test::Hatch::virsh("domstate $id --reason")
                               =~ /^(.*?)(?: \((.*)\))?\s*$/;
        $states{$id} = $state ne 'shut off' ? $state
            : Test::Hatch::virsh("dominfo $id") =~ /^Managed save:\s*yes/m
            ? 'snapshotted'
            : $reason =~ /^(?:failed|crashed)$/ ? 'error' : 'stopped';
    }
    return \%states;
}


# agree(LIBVIRT): LIBVIRT->() gives { id => state } as libvirt has it, or is
# undef where it cannot be asked.
sub agree {
    my ($libvirt) = @_;
    my %vms;

    # none falls asleep while we look
    api('PATCH', "/vms/$_", { idle_timeout => undef, save_after => undef })
        for ids();

    Test::Hatch::wait_until('every VM is at rest', sub {
        %vms = map { $_->{id} => $_ } @{ api('GET', '/vms')->{json} };
        return !grep $_->{state} =~ /ing$/ && $_->{state} ne 'running',
                     values %vms;
    });

    my %states = map { $_ => $vms{$_}{state} } keys %vms;
    my %zone = map { $_->{id} => $_->{state} } @{ Test::Hatch::zone()->{vms} };
    is_deeply(\%zone, \%states, 'the zone has what the API says');
    is_deeply($libvirt->(), \%states, 'so has libvirt') if $libvirt;

    is("@{[files('disks', '.qcow2')]}",
       "@{[sort grep $vms{$_}{disk_mib}, keys %vms]}", 'a disk per VM with one');

    my @snapshots = sort map snapshots($_), keys %vms;
    is("@{[files('snapshots', '.json')]}", "@snapshots", 'snapshots: records');
    is("@{[grep !/\./, files('snapshots', '')]}", "@snapshots",
       'snapshots: files');
    my %iso = map { $_ => 1 } files('seeds', '.iso');
    is_deeply([grep !$vms{$_}, keys %iso], [], 'no seed of a VM that is gone');
    is_deeply([grep $vms{$_}{disk_mib} && !$iso{$_}, keys %vms], [],
              'a seed for each with a disk');
    is_deeply([files('pending', '')], [], 'nothing is pending');
    is_deeply([files('disks', '.new'), files('disks', '.old')], [],
              'no disk is half restored');

    my (%name, %ip);
    $name{$_->{name}}++, $ip{$_->{guest_ip}}++ for values %vms;
    is_deeply([grep $name{$_} > 1, keys %name], [], 'no name twice');
    is_deeply([grep $ip{$_} > 1, keys %ip], [], 'no address twice');
    return \%vms;
}


1;
