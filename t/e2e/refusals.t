#!/usr/bin/perl

# A VM's disk that libvirt or QEMU refuses: locked by a backup, moved away, its
# permission taken, cut, damaged, its volume unmounted.  While it lasts, what
# needs the disk is 503 with the reason; nothing is lost, and all works once it
# is over.  Start, wake, restore, snapshot, resume, DELETE, and a VM that
# libvirt loses and has again.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

allow_log(qr/\[error\].*(?:prematurely closed|Connection refused|reset by|connect\(\) failed)/);

my %keep = (keep_running => JSON::PP::true);
my %force = (force => JSON::PP::true);

# the disks have a volume of their own
my $disks = "$dir/state/disks";
mkdir "$dir/state";
mkdir $disks, 0711;
mkdir "$dir/elsewhere";
system('mount', '-t', 'tmpfs', '-o', 'size=256m,mode=0711', 'tmpfs', $disks)
    == 0 or die;

# as on a host: QEMU is not root, so a permission can be taken from it; it may
# look at /dev/kvm, or libvirt would look at QEMU anew each time
if (-e '/dev/kvm') {
    system("mknod -m 666 '$dir/kvm' c 10 232 && mount --bind '$dir/kvm' "
           . '/dev/kvm') == 0 or die;
}
write_file('/etc/libvirt/qemu.conf', slurp('/etc/libvirt/qemu.conf')
           =~ s/"root"/"libvirt-qemu"/gr);
stop_libvirtd();
start_libvirtd();

guest_files();
guest_agent(undef, HATCH_RESYNC_INTERVAL => 1);
start_nginx();
my $image = guest_image();

sub vm {
    my ($route) = @_;
    my $id = create_vm({ image_id => $image, idle_timeout => undef,
                         save_after => undef })->{id};
    create_route($id, $route);
    return $id;
}

my $id;

sub stop { api('POST', "/vms/$_[0]/stop", \%force) }
sub state_of { return api('GET', "/vms/$_[0]")->{json}{state} // 'none' }
sub guest { return guest_state('one', @_) }


# --- the refusals ---

sub change {
    my ($file, $offset, $bytes) = @_;
    open my $fh, '+<', $file or die "$file: $!";
    seek $fh, $offset, 0;
    print $fh $bytes;
    close $fh or die $!;
}

# In its place, so that a QEMU that has it open has it again.
sub put_back {
    my ($file) = @_;
    system("cat '$dir/copy' > '$file' && rm '$dir/copy'") == 0 or die;
}

sub copy { system('cp', '--sparse=always', $_[0], "$dir/copy") == 0 or die }

my $locked;

# Name, how it begins and ends, what the reason says, and whether QEMU, which
# has the disk open, has it all the same.
my @refusals = (
    ['locked', sub { $locked = lock_disk($_[0]) },
     sub { unlock_disk($locked) }, qr/Failed to get "write" lock/],
    ['moved away', sub { rename $_[0], "$_[0].moved" or die },
     sub { rename "$_[0].moved", $_[0] or die }, qr/No such file/],
    ['permission taken', sub { chmod 0, $_[0] or die },
     sub { chmod 0600, $_[0] or die }, qr/Permission denied/],
    ['volume unmounted',
     sub { system('mount', '--move', $disks, "$dir/elsewhere") == 0 or die },
     sub { system('mount', '--move', "$dir/elsewhere", $disks) == 0 or die },
     qr/No such file/],
    ['cut', sub { copy($_[0]); truncate $_[0], 0 or die }, \&put_back,
     qr/not in qcow2 format/],
    ['header overwritten', sub { copy($_[0]); change($_[0], 0, 'x' x 512) },
     \&put_back, qr/not in qcow2 format/],
    ['refcounts broken', sub { copy($_[0]); change($_[0], 48, "\xff" x 8) },
     \&put_back, qr/[Rr]ef(?:erence )?count/],
    ['marked corrupt', sub { copy($_[0]); change($_[0], 79, "\x02") },
     \&put_back, qr/corrupt/],
);

# Each is seen by a client in the same way.
sub refused {
    my ($r, $what, $code, $why) = @_;
    my $j = eval { json($r->{body}) } // {};
    is("$r->{status} " . ($j->{code} // ''), "503 $code", $what)
        or diag $r->{body};
    ok($r->{headers}{'retry-after'}, 'with Retry-After');
    like($j->{error}, $why, 'and the reason') if $why;
}

# libvirt loses the VM, and has it again; the refusal lasts.
sub adopt {
    my ($what, $why) = @_;
    my $xml = virsh("dumpxml --inactive $id");
    virsh("undefine $id");
    wait_until("$what: it is an orphan", sub {
        api('GET', "/orphans/$id")->{status} == 200
    });
    write_file("$dir/vm.xml", $xml);
    virsh("define $dir/vm.xml");
    wait_until("$what: it is adopted", sub { state_of($id) eq 'stopped' });
    refused(api('POST', "/vms/$id/start"), "$what: adopted, start",
            'host_trouble', $why);
}

$id = vm('one');
my $disk = "$disks/$id.qcow2";
is(guest('snap'), 'snap/snap', 'a guest');
my $snap = api('POST', "/vms/$id/snapshot", \%keep)->{json}{id};
ok($snap, 'a snapshot');

for my $refusal (@refusals) {
    my ($what, $begin, $end, $why) = @$refusal;
    (my $text = $what) =~ tr/ /-/;

    # --- resume, and a snapshot of one that stands ---

    is(guest($text), "$text/$text", "$what: the guest before");

    if ($what ne 'locked') {        # nobody gets a lock that QEMU has
        is(api('POST', "/vms/$id/pause")->{status}, 200, 'paused');
        $begin->($disk);
        my $before = () = glob "$dir/state/snapshots/snap_*";
        my $r = api('POST', "/vms/$id/snapshot", \%keep);

        refused($r, "$what: a snapshot", 'host_trouble',
                qr/\Q$id\E.*(?:No such file|Permission denied|is damaged: )/);
        is(scalar(my @now = glob "$dir/state/snapshots/snap_*"), $before,
           'no file of it is left');
        is(state_of($id), 'paused', 'it is as it was');

        if ($what =~ /moved|permission|volume/) {
            is(api('POST', "/vms/$id/resume")->{status}, 200,
               "$what: resume works");
            is(guest(), "$text/$text", 'the guest goes on');
        }
        $end->($disk);
        is(guest(), "$text/$text", "$what is over: a request wakes it");
    }

    # --- what is saved ---

    is(api('POST', "/vms/$id/snapshot")->{status}, 201, 'asleep');
    $begin->($disk);
    refused(api('POST', "/vms/$id/start"), "$what: start from saved memory",
            'restore_failed', $why);
    refused(page('one'), 'a request', 'wake_failed');
    is(state_of($id), 'snapshotted', 'it sleeps on');
    $end->($disk);
    is(guest(), "$text/$text", "$what is over: it has its memory");
    api('DELETE', "/snapshots/$_->{id}")
        for grep $_->{id} ne $snap, @{ api('GET', "/vms/$id/snapshots")->{json} };

    # --- what is stopped ---

    stop($id);
    $begin->($disk);
    refused(api('POST', "/vms/$id/start"), "$what: start", 'host_trouble',
            $why);
    refused(page('one'), 'a request', 'wake_failed');
    like(state_of($id), qr/^(?:stopped|error)$/, 'it is down');

    # libvirt loses it, and has it again
    adopt($what, $why) if $what =~ /locked|moved|volume/;
    $end->($disk);
    is(api('POST', "/vms/$id/start")->{status}, 200, "$what is over: start")
        or diag `ls -la $disks`;
    is(guest(), "/$text", 'with its disk');
}

# --- restore: the snapshot's disk takes the place of what is there ---

for my $refusal (@refusals) {
    my ($what, $begin, $end, $why) = @$refusal;
    my $gone = $what =~ /moved|volume/;

    guest('later');
    stop($id);
    $begin->($disk);
    my $r = api('POST', "/vms/$id/restore", { snapshot_id => $snap });

    if ($gone) {
        refused($r, "$what: restore", 'host_trouble', $why);
        $end->($disk);
        is(guest(), '/later', 'nothing is lost');
    } else {
        is($r->{status}, 200, "$what: restore needs no disk") or diag $r->{body};
        is(guest(), 'snap/snap', 'to the snapshot');
        $locked && $what eq 'locked' ? $end->($disk) : unlink "$dir/copy";
    }
    is_deeply([grep /\Q$id\E\..*\.(?:old|new)/, glob "$disks/*"], [],
              'nothing else is left');
}

# the snapshot's own files
stop($id);
my $file = "$dir/state/snapshots/$snap/disk.qcow2";
for my $part (qw(disk.qcow2 memory)) {
    my $file = "$dir/state/snapshots/$snap/$part";
    rename $file, "$dir/part" or die;
    refused(api('POST', "/vms/$id/restore", { snapshot_id => $snap }),
            "a snapshot whose $part is away", 'host_trouble',
            qr/snapshot $snap: .*No such file/);
    rename "$dir/part", $file or die;
}
is(api('POST', "/vms/$id/start")->{status}, 200, 'it starts from its disk');
is(guest(), '/snap', 'which is as it was');

# --- DELETE ---

for my $refusal (@refusals) {
    my ($what, $begin, $end) = @$refusal;
    my $other = vm('other');
    my $path = "$disks/$other.qcow2";

    stop($other);
    $begin->($path);
    is(api('DELETE', "/vms/$other")->{status}, 200, "$what: DELETE works");
    is(api('GET', "/vms/$other")->{status}, 404, 'it is gone');
    is(page('other')->{status}, 404, 'with its route');

    # what was out of reach was not deleted, and is not forgotten
    if ($what =~ /moved|volume/) {
        $end->($path);
        wait_until('back: an orphan', sub {
            api('GET', "/orphans/$other")->{status} == 200
        });
        is(api('DELETE', "/orphans/$other")->{status}, 204, 'which can go');
    } else {
        $end->($path) if $what eq 'locked';
        unlink "$dir/copy";
    }
    ok(!-e $path, 'nothing is left');
}

# one that cannot be removed
stop($id);
my $other = vm('other');
my $path = "$disks/$other.qcow2";
stop($other);
system('mount', '-o', 'remount,ro', $disks) == 0 or die;
is(api('DELETE', "/vms/$other")->{status}, 200, 'a read-only disk: DELETE');
is(page('other')->{status}, 404, 'it is gone with its route');
ok(-e $path, 'its file cannot be removed');
is(api('GET', "/orphans/$other")->{status}, 404, 'but is no orphan');
wait_until('the log', sub {
    agent_log() =~ /$other: not recovered yet: "\Q$path\E" cannot be removed/
});
system('mount', '-o', 'remount,rw', $disks) == 0 or die;
wait_until('writable again: it goes by itself', sub { !-e $path });
wait_until('and nothing is pending', sub { !(() = glob "$dir/state/pending/*") });

is(guest(), '/snap', 'the VM is as it was, through all of it');
stop_all();
system('umount', '-l', $_) for $disks, grep -c, '/dev/kvm';
done();
