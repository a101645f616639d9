#!/usr/bin/perl

# A host whose disks are full, with real guests: a save that finds no room is
# not tried again before there is some, and a guest whose disk cannot be written
# is woken when that helps, and not before.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;
use Time::HiRes qw(time);

mkdir "$dir/state";
mkdir "$dir/state/disks";
mkdir "$dir/images";
system('mount', '-t', 'tmpfs', '-o', 'size=24M,mode=0711', 'tmpfs',
       "$dir/state/disks") == 0 or die;
system('mount', '-t', 'tmpfs', '-o', 'size=8M,mode=0711', 'tmpfs',
       '/var/lib/libvirt/qemu/save') == 0 or die;
system('cp', "$Test::Hatch::build/image/vmlinuz",
       "$Test::Hatch::build/image/initrd", "$dir/images") == 0 or die;
system('qemu-img', 'create', '-q', '-f', 'qcow2', "$dir/images/d.qcow2",
       '64M') == 0 or die;

start_agent(connect => 'qemu:///system',
            env => { HATCH_LOG_LEVEL => 'info' });
start_nginx();

my $image = api('POST', '/images', { kernel_path => 'vmlinuz',
                                     initrd_path => 'initrd',
                                     rootfs_path => 'd.qcow2',
                                     boot_args => 'console=ttyS0 quiet' })
            ->{json}{id};
my $vm = create_vm({ image_id => $image, idle_timeout => undef,
                     save_after => .5 });
my $id = $vm->{id};
create_route($id, 'a');
is(page('a')->{status}, 200, 'the guest is up');

sub count { my ($words) = @_;
            my $log = agent_log();
            return scalar(() = $log =~ /$words/g) }

# --- no room for its memory ---

my $words = qr/$id: it should sleep: .*No space left/;
is(api('POST', "/vms/$id/pause")->{status}, 200, 'paused');
wait_until('a save finds no room', sub { count($words) }, 30);
my $since = time;
my $seen = 0;
wait_until('time passes', sub {
    $seen = 1 if Test::Hatch::state($id) ne 'paused';
    return time - $since > 15;
}, 25);
is(count($words), 1, 'which is said once');
is($seen, 0, 'it is not tried again while there is no more room');
is(Test::Hatch::state($id), 'paused', 'it stays paused');
is(page('a')->{status}, 200, 'and wakes');
is(api('POST', "/vms/$id/pause")->{status}, 200, 'paused again');
wait_until('no room again', sub { count($words) == 2 }, 30);
system('mount', '-o', 'remount,size=256M', '/var/lib/libvirt/qemu/save') == 0
    or die;
ok(wait_state($id, 'snapshotted', 30), 'with room it is saved');
is(page('a')->{status}, 200, 'and wakes from there');
is(api('PATCH', "/vms/$id", { save_after => undef })->{status}, 200, 'enough');

# --- no room for its disk ---

my ($free) = qx(df --output=avail -k '$dir/state/disks') =~ /(\d+)\s*\z/;
system("head -c ${free}K /dev/zero > '$dir/state/disks/ballast'");
defined(my $kid = fork) or die;
if (!$kid) {
    page('a', '/cgi-bin/state?full');       # it is not answered soon
    POSIX::_exit(0);
}
ok(wait_state($id, 'error', 30), 'a guest whose disk cannot be written: error');

my $r = page('a');
is($r->{status}, 503, 'a request: 503');
is(eval { json($r->{body})->{code} }, 'wake_failed', 'wake_failed');
like($r->{body}, qr/the host's disk is full/, 'which says so');
ok($r->{headers}{'retry-after'}, 'Retry-After');
my $failed = count(qr/$id: cannot be woken/);
my ($began, $n) = (time, 0);
wait_until('many ask for it', sub {
    page('a')->{status} == 503 or $n++;
    return time - $began > 6;
}, 30);
is($n, 0, 'all get the 503');
my $more = count(qr/$id: cannot be woken/) - $failed;
cmp_ok($more, '<=', 4, 'it is tried ever more seldom');
is(woken($id)->{resume}, 1, 'no success is counted');
for ('resume', 'start') {
    $r = api('POST', "/vms/$id/$_");
    is($r->{status}, 507, "$_: 507");
    like($r->{json}{error}, qr/is the host's disk full/, 'says why');
}

unlink "$dir/state/disks/ballast" or die $!;
$r = api('POST', "/vms/$id/resume");
is("$r->{status} $r->{json}{state}", '200 running', 'with room: resume')
    or diag $r->{body};
is(page('a')->{status}, 200, 'and it answers');

kill 'KILL', $kid;
waitpid $kid, 0;
stop_agent();
system('umount', '-l', "$dir/state/disks");
allow_log(qr/No space left|cannot be woken|cannot be written|warn: POST|507/);
done();
