#!/usr/bin/perl

# A Linux bridge has 1023 ports.  One VM more is 503 bridge_full, however it
# comes up; nothing is lost by it, and a port that is free again is enough.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

start_agent(connect => 'qemu:///system', env => { HATCH_LOG_LEVEL => 'info' });
start_nginx();

my $vm = create_vm({ name => 'one', idle_timeout => undef,
                     save_after => undef });
create_route($vm->{id}, 'one');
wait_until('it is up', sub { (page('one') // {})->{status} == 200 }, 60);
page('one', '/cgi-bin/state?kept');

sub links { my ($text) = @_;
            open my $ip, '|-', 'ip -force -batch - 2> /dev/null' or die;
            print $ip $text;
            close $ip; }
sub ports { my $n = () = qx(ip -o link show master hatch0) =~ /^/mg;
            return $n }
sub code { my ($r) = @_; return "$r->{status} $r->{json}{code}" }

# asleep, it gives its port back; the devices of others take all
is(api('POST', "/vms/$vm->{id}/stop", { timeout => 0 })->{status}, 200,
   'stopped');
is(api('POST', "/vms/$vm->{id}/start")->{status}, 200, 'started');
wait_until('it is up', sub { (page('one') // {})->{status} == 200 }, 60);
page('one', '/cgi-bin/state?kept');
virsh("managedsave --running $vm->{id}");
wait_state($vm->{id}, 'snapshotted');

links(join '', map "tuntap add fill$_ mode tap\n"
                   . "link set fill$_ master hatch0\n", 1 .. 1023);
is(ports(), 1023, 'a full bridge');

my $r = api('POST', '/vms', { name => 'two' });
is(code($r), '503 bridge_full', 'POST /vms');
like($r->{json}{error}, qr/bridge has no port left; a Linux bridge has 1023/,
     'with the reason');
is(scalar @{ api('GET', '/vms')->{json} }, 1, 'nothing is left of it');

is(code(api('POST', "/vms/$vm->{id}/start")), '503 bridge_full', 'POST start');
is(Test::Hatch::state($vm->{id}), 'snapshotted', 'its memory is kept');
is(page('one')->{status}, 503, 'a request that would wake it');
is(Test::Hatch::state($vm->{id}), 'snapshotted', 'and still is');

links("link delete fill1\n");
ok(wait_until('it is awake', sub {
    (page('one', '/cgi-bin/state') // {})->{body} =~ /^memory kept$/m }, 60),
   'a port is free: it goes on where it was');

allow_log(qr/connect\(\) failed/);
done();
