#!/usr/bin/perl

# Every single call of libvirt's and of the system that an operation makes is
# refused once, each in a run of its own: the client gets an error that says
# so, or never notices; the VM is as it was or as it should be, nothing is half
# done, and the next try works.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Random;
use Test::More;

# each error is one that a test asked for
allow_log(qr/error: /);

my ($order, $calls) = ("$dir/order", "$dir/calls");
system('cc', '-shared', '-fPIC', '-O1', '-o', "$dir/refuse.so",
       "$Test::Hatch::top/t/lib/refuse.c") == 0 or die;

# what a sanitizer replaces has to come before all else
my $first = join ' ', `ldd $Test::Hatch::build/hatch-agent`
                      =~ m{(\S*/lib[at]san\S*) \(}g;
sub agent {
    start_agent(env => { LD_PRELOAD => "$first $dir/refuse.so",
                         REFUSE => $order, REFUSE_LOG => $calls,
                         HATCH_LOG_LEVEL => 'info' });
}

mkdir "$dir/images";
system('qemu-img', 'create', '-q', '-f', 'qcow2', "$dir/images/base.qcow2",
       '8M') == 0 or die;
system('cp', "$Test::Hatch::build/image/vmlinuz",
       "$Test::Hatch::build/image/initrd", "$dir/images") == 0 or die;
agent();
my %files = (kernel_path => 'vmlinuz', initrd_path => 'initrd',
             rootfs_path => 'base.qcow2');
my $image = api('POST', '/images', \%files)->{json}{id};

my %force = (force => JSON::PP::true);
my %keep = (keep_running => JSON::PP::true);

sub state_of { return (api('GET', "/vms/$_[0]")->{json} // {})->{state} // '' }

# How a VM comes to where an operation begins, with a snapshot.
sub new_vm {
    my ($state) = @_;
    my $id = create_vm({ image_id => $image, user_data => "#cloud-config\n",
                         idle_timeout => undef })->{id};
    my $snap = api('POST', "/vms/$id/snapshot", \%keep)->{json}{id};
    api('POST', "/vms/$id/stop", \%force) if $state eq 'stopped';
    api('POST', "/vms/$id/pause") if $state eq 'paused';
    api('POST', "/vms/$id/snapshot") if $state eq 'snapshotted';
    is(state_of($id), $state, "a VM is $state") if state_of($id) ne $state;
    return ($id, $snap);
}

# name => [state before, call, states after it]
my %operations = (
    create => ['', sub { [POST => '/vms', { image_id => $image,
        user_data => "#cloud-config\n" }] }],
    start => [stopped => sub { [POST => "/vms/$_[0]/start"] }, 'running'],
    wake => [snapshotted => sub { [POST => "/vms/$_[0]/start"] }, 'running'],
    stop => [running => sub { [POST => "/vms/$_[0]/stop", \%force] },
             'stopped'],
    'stop asleep' => [snapshotted => sub {
        [POST => "/vms/$_[0]/stop", \%force] }, 'stopped'],
    pause => [running => sub { [POST => "/vms/$_[0]/pause"] }, 'paused'],
    resume => [paused => sub { [POST => "/vms/$_[0]/resume"] }, 'running'],
    snapshot => [running => sub { [POST => "/vms/$_[0]/snapshot", \%keep] },
                 'running'],
    'snapshot paused' => [paused => sub {
        [POST => "/vms/$_[0]/snapshot", \%keep] }, 'paused'],
    sleep => [running => sub { [POST => "/vms/$_[0]/snapshot"] },
              'snapshotted'],
    restore => [stopped => sub { [POST => "/vms/$_[0]/restore",
        { snapshot_id => $_[1] }] }, 'running'],
    'restore asleep' => [snapshotted => sub { [POST => "/vms/$_[0]/restore",
        { snapshot_id => $_[1] }] }, 'running'],
    unsnap => [running => sub { [DELETE => "/snapshots/$_[1]"] }],
    rename => [running => sub { [PATCH => "/vms/$_[0]",
        { name => "n-$_[0]" }] }],
    resize => [stopped => sub { [PATCH => "/vms/$_[0]",
        { mem_mib => 160 }] }],
    delete => [running => sub { [DELETE => "/vms/$_[0]"] }, ''],
    'delete asleep' => [snapshotted => sub { [DELETE => "/vms/$_[0]"] }, ''],
    image => ['', sub { [POST => '/images', { %files, name => 'i' }] }],
    template => ['', sub { [POST => '/templates', { name => 't' }] }],
);

# What it calls: { name => times }.
sub calls_of {
    my ($begin, $call) = @{ $operations{$_[0]} };
    my @vm = $begin ne '' ? new_vm($begin) : ();
    my ($method, $path, $body) = @{ $call->(@vm) };
    my %times;
    write_file($calls, '');
    my $r = api($method, $path, $body);
    $times{$_}++ for split /\n/, slurp($calls);
    unlink $calls;
    cmp_ok($r->{status}, '<', 300, "$_[0]: as it should be")
        or diag $r->{body};
    tidy_up($r, @vm);
    return \%times;
}

sub tidy_up {
    my ($r, $id) = @_;
    my $made = ref $r->{json} eq 'HASH' ? $r->{json}{id} // '' : '';
    api('DELETE', '/' . { img => 'images', tpl => 'templates' }->{$1}
                  . "/$made") if $made =~ /^(img|tpl)_/;
    for (@{ api('GET', '/vms')->{json} }) {
        my $gone = api('DELETE', "/vms/$_->{id}");
        is($gone->{status}, 200, 'delete') or diag $gone->{body};
    }
}

my $number = 0;

sub refuse_one {
    my ($name, $what, $nth, $code) = @_;
    my ($begin, $call, @after) = @{ $operations{$name} };
    my ($id, $snap) = $begin ne '' ? new_vm($begin) : ();
    my ($method, $path, $body) = @{ $call->($id, $snap) };
    my $point = "$name, $what $nth, $code";

    write_file("$order.new", ++$number . " $what $nth $code");
    rename "$order.new", $order or die;
    my $r = api($method, $path, $body);
    my $reached = !-e $order;
    unlink $order;

    ok($r, "$point: an answer") or return;
    ok($r->{status} < 300 || length($r->{json}{error} // '')
       && length($r->{json}{code} // ''), "$point: done, or an error")
        or diag "$r->{status} $r->{body}";
    wait_until("$point: nothing is pending",
               sub { my @notes = glob "$dir/state/pending/*"; !@notes });

    # what could not be removed is marked, and goes with the next agent
    my @marks = glob "$dir/state/snapshots/*.gone";
    if (@marks && $method eq 'DELETE' && $path =~ m{^/vms/}) {
        stop_agent();
        agent();
        wait_until("$point: the next agent removes it", sub {
            my @left = glob "$dir/state/snapshots/*";
            return !@left;
        });
    }
    my $vms = agree(undef);

    if (defined $id) {
        my $is = ($vms->{$id} // {})->{state} // '';
        my %may = map { $_ => 1 } @after ? @after : $begin,
                  $r->{status} < 300 ? () : $begin;
        ok($may{$is}, "$point: \"$is\" after $r->{status}")
            or diag $r->{body};
        my $kept = $method eq 'DELETE' ? 404 : 200;
        my $there = api('GET', "/snapshots/$snap")->{status};
        ok($there == $kept || $r->{status} >= 300 && $there == 200,
           "$point: its snapshot is $there");

        if ($r->{status} >= 300 && $vms->{$id}) {
            my $again = api($method, $path, $body);
            ok($again->{status} < 300
               || $is ne $begin && $again->{status} == 409,
               "$point: works when tried again")
                or diag "$r->{body} $again->{body}";
        }
    } elsif ($method eq 'POST' && $path eq '/vms') {
        # libvirt may have failed when all was done, and it was looked at
        my @there = values %$vms;
        ok(@there == ($r->{status} < 300 ? 1 : 0)
           || @there == 1 && $there[0]{state} eq 'running',
           "$point: all or nothing");
    }

    tidy_up($r, $id);
    my @left = grep !m{/(?:images|test)/}, glob "$dir/state/*/*";
    is("@left", '', "$point: no file is left");
    return $reached;
}

# By itself what was found so once; REFUSED=create,delete (or all) takes each
# call of these operations, which is some hundreds.
my @names = !$ENV{REFUSED} ? ()
          : $ENV{REFUSED} eq 'all' ? sort keys %operations
          : split /,/, $ENV{REFUSED};

if (!@names) {
    # a note of an operation that has not begun
    ok(refuse_one('create', fsync => 2, 5), 'a note that may not be on disk');
    # the files of a snapshot, whose mark went all the same
    my $n = calls_of('delete')->{rmdir};
    my @reached = grep refuse_one('delete', rmdir => $_, 5), 1 .. $n;
    is(scalar @reached, $n, 'each folder that cannot be removed');
}

for my $name (@names) {
    my $times = calls_of($name);

    for my $what (sort keys %$times) {
        # libvirt cannot, libvirt is gone; no room, broken
        my @codes = $what =~ /^vir/ ? (55, 39) : (28, 5);
        my $n = $times->{$what} > 6 ? 6 : $times->{$what};
        for my $nth (1 .. $n) {
            refuse_one($name, $what, $nth, $_) for @codes;
        }
    }
    note(join ' ', "$name:", map "$_ $times->{$_}", sort keys %$times);
}

done();
