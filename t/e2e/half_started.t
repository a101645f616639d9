#!/usr/bin/perl

# libvirtd is killed at the very beginning of a start: the next one thinks ever
# after that the VM is starting, and refuses all, also to destroy it.  The agent
# says what to do; then the VM is as it was, and no other one is concerned.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

allow_log(qr/the connection to libvirt is lost|cannot connect to libvirt/,
          qr/\[error\].*(?:prematurely closed|Connection refused|reset by|connect\(\) failed)/);

guest_files();
guest_agent(undef, HATCH_RESYNC_INTERVAL => 1);
start_nginx();
my $image = guest_image();
my ($id, $other) = map create_vm({ image_id => $image, idle_timeout => undef })
                       ->{id}, 1, 2;
create_route($id, 'one');
create_route($other, 'other');
is(guest_state('one', 'mine'), 'mine/mine', 'a guest');
is(guest_state('other', 'theirs'), 'theirs/theirs', 'another one');
api('POST', "/vms/$id/stop", { force => JSON::PP::true });

# libvirt's note of a domain that is up; pid 0: QEMU does not run yet
my $status = "/run/libvirt/qemu/$id.xml";

sub again {
    stop_libvirtd('KILL');
    unlink '/run/libvirtd.pid';
}

my $kid = fork // die;
if (!$kid) {
    eval { api('POST', "/vms/$id/start") };
    POSIX::_exit(0);
}
wait_until('libvirt has begun', sub { -s $status });
again();
like(slurp($status), qr/<domstatus [^>]*pid='0'/, 'and nothing more');
waitpid $kid, 0;
start_libvirtd();
wait_state($id, 'starting');

my $r = api('POST', "/vms/$id/start");
is($r->{status}, 409, 'a VM that is starting for ever: 409');
like($r->{json}{error}, qr/it is starting, says libvirt; .* remove \Q$status\E, /,
     'which says what to do');
is(page('one')->{status}, 503, 'a request: 503');
is(guest_state('other'), 'theirs/theirs', 'the other VM goes on');

again();
unlink $status or die;
start_libvirtd();
is(guest_state('one'), '/mine', 'done so: it is as it was');

allow_log(qr/warn: (?:POST|GET)/);
done();
