#!/usr/bin/perl

# Saved memory that cannot be restored now is kept, whatever the reason, and
# restored when that is over; only what is proved bad is put aside.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

allow_log(qr/\[error\].*(?:prematurely closed|Connection refused|reset by)/);

my $save_dir = '/var/lib/libvirt/qemu/save';

guest_files();
guest_agent();
start_nginx();

my $image = guest_image();
my $vm = create_vm({ image_id => $image, idle_timeout => undef,
                     save_after => undef });
my $id = $vm->{id};
create_route($id, 'kept');
my $disk = "$dir/state/disks/$id.qcow2";
my $save = "$save_dir/$id.save";

# What the guest has in memory; ?TEXT sets it.
sub memory { return guest_state('kept', @_) =~ m{^(.*)/} ? $1 : 'no answer' }

sub save {
    my ($text) = @_;
    is(memory($text), $text, "$text is in memory");
    virsh("managedsave --running $id");
    wait_state($id, 'snapshotted');
    ok(-s $save, 'saved');
}

sub aside { return glob "$save_dir/$id.save.*" }

sub code {
    my ($r) = @_;
    return "$r->{status} " . ($r->{json}{code} // eval { json($r->{body})->{code} } // '');
}


# --- a reason that is not the memory's ---

my $locked;
my @troubles = (
    ['kernel file away', sub { rename "$dir/images/vmlinuz", "$dir/k" or die },
     sub { rename "$dir/k", "$dir/images/vmlinuz" or die }],
    ['disk file away', sub { rename $disk, "$dir/d" or die },
     sub { rename "$dir/d", $disk or die }],
    ['base image away',
     sub { rename "$dir/images/base.qcow2", "$dir/b" or die },
     sub { rename "$dir/b", "$dir/images/base.qcow2" or die }],
    ['disk locked', sub { $locked = lock_disk($disk) },
     sub { unlock_disk($locked) }],
    ['no emulator', sub {
         write_file("$dir/false", "#!/bin/sh\nexit 1\n");
         chmod 0755, "$dir/false";
         system('mount', '--bind', "$dir/false",
                '/usr/bin/qemu-system-x86_64') == 0 or die;
     }, sub {
         system('umount', '/usr/bin/qemu-system-x86_64') == 0 or die;
     }],
    ['save file away', sub { rename $save, "$save_dir/away" or die },
     sub { rename "$save_dir/away", $save or die }, 'noted'],
    ['somebody\'s save file away',
     sub { rename $save, "$save_dir/away" or die },
     sub { rename "$save_dir/away", $save or die }],
    ['save file unreadable', sub {
         rename $save, "$save_dir/away" or die;
         mkdir $save or die;
     }, sub { rmdir $save or die; rename "$save_dir/away", $save or die }],
);

for my $t (@troubles) {
    my ($what, $begin, $end, $noted) = @$t;
    (my $text = $what) =~ tr/ '/-/d;

    if ($noted) {
        # by us: only then it is known that the file was there
        is(memory($text), $text, "$text is in memory");
        is(api('POST', "/vms/$id/snapshot")->{status}, 201, 'put to sleep');
        ok(-s $save, 'saved');
    } else {
        save($text);
    }

    $begin->();
    my $r = page('kept');
    is(code($r), '503 wake_failed', "$what: a request gets 503");
    like($r->{body}, qr/memory cannot be restored now, and is kept.* stop /,
         'says so, and the way out');
    $r = api('POST', "/vms/$id/start");
    is(code($r), '503 restore_failed', 'POST start, too');
    like($r->{json}{error}, qr{the saved memory is kept.*POST /vms/$id/stop},
         'names the way out');
    is(api('GET', "/vms/$id")->{json}{state}, 'snapshotted', 'it sleeps on');
    $end->();
    ok(-s $save, 'the memory is still there');
    is(join(' ', aside()), '', 'in its place');
    is(memory(), $text, "$what is over: it goes on where it was");
}

# moved away for good: stop is the way out
is(memory('lost'), 'lost', 'in memory');
is(api('POST', "/vms/$id/snapshot")->{status}, 201, 'put to sleep');
rename $save, "$save_dir/away" or die;
is(code(api('POST', "/vms/$id/start")), '503 restore_failed', 'away');
is(api('POST', "/vms/$id/stop")->{json}{state}, 'stopped', 'stop gives it up');
ok(!-e $save, 'and leaves nothing in its place');
unlink "$save_dir/away";
is(memory(), '', 'it boots');


# --- proved bad ---

sub change {
    my ($offset, $bytes) = @_;
    open my $fh, '+<', $save or die "$save: $!";
    seek $fh, $offset, 0;
    print $fh $bytes;
    close $fh;
}

# by us, so that its size is noted
sub cut {
    is(api('POST', "/vms/$id/stop", { force => JSON::PP::true })->{status},
       200, 'once more');
    is(memory('cut'), 'cut', 'in memory');
    is(api('POST', "/vms/$id/snapshot")->{status}, 201, 'put to sleep');
    truncate $save, int((-s $save) / 2) or die;
}

my @bad = (
    ['empty', sub { truncate $save, 0 or die }],
    ['cut in its header', sub { truncate $save, 50 or die }],
    ['of something else', sub { change(0, 'x' x 16) }],
    ['not finished', sub { change(0, 'LibvirtQemudPart') }],
    ['damaged', sub { change(65536, 'x' x 4_000_000) }],
    ['half of it', \&cut],
);

# both ways up have the one start: in turn, and the last one in both
my ($n, $times) = (0, 0);

for my $t (@bad) {
    my ($what, $do) = @$t;
    my @ways = ('a request', 'POST start');

    for my $how ($n == $#bad ? @ways : $ways[$n % 2]) {
        $times++;
        save('bad');
        $do->();
        my $size = -s $save;
        my $sum = qx(cksum < $save);

        if ($how eq 'a request') {
            my $r = page('kept');
            is($r->{status}, 200, "$what, $how: it boots") or diag $r->{body};
            like($r->{headers}{'server-timing'} // '', qr/desc="boot"/,
                 'and says so');
        } else {
            my $r = api('POST', "/vms/$id/start");
            is($r->{json}{state}, 'running', "$what, $how: it boots")
                or diag $r->{body};
        }

        my @aside = aside();
        is(scalar @aside, 1, 'the memory is put aside') or diag "@aside";
        is(qx(cksum < $aside[0]), $sum, "all $size bytes of it");
        ok(!-e $save, 'and not in its place any more');
        like(agent_log(), qr/$id: its saved memory cannot be restored, it boots without: .*kept as "\Q$aside[0]"/,
             'the log names it');
        unlink $aside[0];
        is(memory(), '', 'memory is new');
        is(api('POST', "/vms/$id/stop", { force => JSON::PP::true })
           ->{json}{state}, 'stopped', 'libvirt knows of no memory any more');
    }

    $n++;
}

is(scalar(() = agent_log() =~ /it boots without/g), $times,
   'one line for each');

# libvirt began while it was away: it does not know of it, and would use it
allow_log(qr/the connection to libvirt is lost|cannot connect to libvirt/);
save('unknown');
rename $save, "$save_dir/away" or die;
stop_libvirtd('KILL');
start_libvirtd();
ok(wait_state($id, 'stopped'), 'libvirt has forgotten the memory');
rename "$save_dir/away", $save or die;
change(0, 'LibvirtQemudPart');
is(page('kept')->{status}, 200, 'not finished, and unknown: it boots');
is(scalar(my @aside = aside()), 1, 'put aside as well');
unlink @aside;

done();
