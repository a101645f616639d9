#!/usr/bin/perl

# The guest's clock after a pause, after a save and after a restore of a
# snapshot: libvirt sets it through the guest agent's channel.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

start_agent(connect => 'qemu:///system');
start_nginx();

my $vm = create_vm({ idle_timeout => undef, save_after => undef });
create_route($vm->{id}, 'clock');

# How far the guest's clock is behind ours, s; it tells whole seconds.
sub behind {
    my $r = http('127.0.0.1:9090', 'GET', '/cgi-bin/info', undef,
                 Host => 'clock.hatch.localhost') or return 1000;
    return $r->{body} =~ /^time (\d+)/m ? time - $1 : 1000;
}

sub vm { my ($action, $body) = @_;
         return api('POST', "/vms/$vm->{id}/$action", $body // {})->{status} }

sub stand_still {
    my $until = time + 4;
    wait_until('four seconds are over', sub { time >= $until });
}

sub clock_is_right {
    return wait_until('its clock is right', sub { abs(behind()) <= 1 });
}

cmp_ok(behind(), '<', 1000, 'it is up');

is(vm('pause'), 200, 'pause');
stand_still();
my $woken = http('127.0.0.1:9090', 'GET', '/', undef,
                 Host => 'clock.hatch.localhost');
like($woken->{headers}{'server-timing'}, qr/^hatch-wake;desc="resume";dur=/,
     'resumed by a request');
ok(clock_is_right(), 'right after a pause');

is(vm('snapshot'), 201, 'snapshot');
stand_still();
is(vm('restore'), 200, 'restore');
ok(clock_is_right(), 'right after a restore');

# The time that it is given gets old underway: QEMU does nothing for a while.
is(vm('pause'), 200, 'pause once more');
stand_still();
is(vm('resume'), 200, 'resume');
kill_pid('STOP', qemu_pid($vm->{id}));
stand_still();
kill_pid('CONT', qemu_pid($vm->{id}));
ok(clock_is_right(), 'right after a try that took seconds');

my $address = api('GET', "/vms/$vm->{id}")->{json}{guest_ip};
is($address, $vm->{guest_ip}, 'the address is the same');
like(agent_log(), qr/$vm->{id}: its clock is set/, 'the agent says so');

# --- a guest whose agent is not there yet ---

# the demo guest, whose agent waits for a word
my $root = "$dir/extra";
mkdir $_ for "$dir/images", $root, "$root/www", "$root/www/cgi-bin";
my $image = "$Test::Hatch::build/image";
system("cd '$root' && zcat '$image/initrd' | cpio -i --quiet guest-agent && "
       . 'mv guest-agent real-agent') == 0 or die;
write_file("$root/guest-agent", <<'END');
#!/bin/sh
while [ ! -e /tmp/go ]; do sleep 1; done
exec /real-agent
END
write_file("$root/www/cgi-bin/go", <<'END');
#!/bin/sh
touch /tmp/go
printf 'Content-Type: text/plain\r\n\r\n'
END
chmod 0755, "$root/guest-agent", "$root/www/cgi-bin/go";
system("cp '$image/vmlinuz' '$dir/images/kernel' && cp '$image/initrd' "
       . "'$dir/images/initrd' && cd '$root' && find . | cpio -o -H newc "
       . "-R 0:0 --quiet | gzip >> '$dir/images/initrd'") == 0 or die;
my $id = api('POST', '/images', { kernel_path => 'kernel',
                                  initrd_path => 'initrd' })->{json}{id};

$vm = create_vm({ image_id => $id, idle_timeout => undef,
                  save_after => undef });
create_route($vm->{id}, 'late');

sub late { my ($path) = @_;
           return http('127.0.0.1:9090', 'GET', $path, undef,
                       Host => 'late.hatch.localhost') }
sub late_behind {
    my $r = late('/cgi-bin/info') or return 1000;
    return $r->{body} =~ /^time (\d+)/m ? time - $1 : 1000;
}
sub tries { my $n = () = agent_log() =~ /$vm->{id}: its clock is not set/g;
            return $n }

cmp_ok(late_behind(), '<', 1000, 'it is up');
is(vm('pause'), 200, 'pause');
stand_still();
is(vm('resume'), 200, 'resume');
ok(wait_until('it is tried', sub { tries() == 1 }), 'tried');
stand_still();
is(tries(), 1, 'and not again: nobody is there');
cmp_ok(late_behind(), '>', 2, 'its clock is wrong');
late('/cgi-bin/go');
ok(wait_until('right', sub { abs(late_behind()) <= 1 }),
   'right once its agent is there');

done();
