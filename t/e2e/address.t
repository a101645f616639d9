#!/usr/bin/perl

# An address that was another VM's a moment ago, and is still leased to it:
# the next VM gets it all the same.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

start_agent(connect => 'qemu:///system', env => { HATCH_LOG_LEVEL => 'info' });
start_nginx();

sub answers {
    my ($name) = @_;
    return wait_until("$name answers", sub {
        (http('127.0.0.1:9090', 'GET', '/', undef,
              Host => "$name.hatch.localhost") // {})->{status} == 200;
    }, 60);
}

my $first = create_vm();
create_route($first->{id}, 'first');
ok(answers('first'), 'a guest took its address by DHCP');
like(virsh('net-dhcp-leases hatch'), qr/\Q$first->{guest_ip}/,
     'and has a lease');
is(api('DELETE', "/vms/$first->{id}")->{status}, 200, 'deleted');

# a new agent begins its search for a free address anew
stop_agent();
start_agent(connect => 'qemu:///system', env => { HATCH_LOG_LEVEL => 'info' });
my $second = create_vm();
is($second->{guest_ip}, $first->{guest_ip}, 'the same address');
create_route($second->{id}, 'second');
ok(answers('second'), 'the next guest gets it, too');

# chosen by hand
is(api('DELETE', "/vms/$second->{id}")->{status}, 200, 'deleted');
my $third = create_vm({ guest_ip => $first->{guest_ip} });
is($third->{guest_mac}, $first->{guest_mac}, 'its MAC comes with it');
create_route($third->{id}, 'third');
ok(answers('third'), 'and the one after');

# a MAC chosen by hand, while the lease is the one before's
is(api('DELETE', "/vms/$third->{id}")->{status}, 200, 'deleted');
ok(wait_until('its lease ends with it', sub {
    virsh('net-dhcp-leases hatch') !~ /\Q$first->{guest_ip}/ }),
   'its lease ends with it');
my $fourth = create_vm({ guest_ip => $first->{guest_ip},
                         guest_mac => '52:54:00:aa:bb:cc' });
is($fourth->{guest_mac}, '52:54:00:aa:bb:cc', 'another MAC');
create_route($fourth->{id}, 'fourth');
ok(answers('fourth'), 'which gets the address at once');

# libvirt refuses a reservation that one of the network's two definitions has
# and the other has not.
my $asleep = create_vm();
create_route($asleep->{id}, 'asleep');
ok(answers('asleep'), 'a guest');
my $reserved = "$dir/host.xml";
write_file($reserved, "<host mac='$asleep->{guest_mac}' "
           . "ip='$asleep->{guest_ip}'/>");
for my $half ('live', 'config') {
    is(api('POST', "/vms/$asleep->{id}/stop", {})->{status}, 200, 'it stops');
    stop_agent();
    is(virsh("net-update hatch delete ip-dhcp-host $reserved --$half") =~
       /^error/m, '', "its reservation is taken away: $half");
    start_agent(connect => 'qemu:///system');
    is(api('POST', "/vms/$asleep->{id}/start", {})->{status}, 200,
       "it starts without that of $half");
    ok(answers('asleep'), 'and has its address');
}
is(api('DELETE', "/vms/$asleep->{id}")->{status}, 200, 'deleted');
is(virsh('net-dumpxml hatch') =~ /$asleep->{guest_mac}/, '',
   'and its reservation with it');

# A lease that nobody ended: of a guest that was deleted without us.
virsh("destroy $fourth->{id}");
virsh("undefine $fourth->{id} --managed-save");
wait_until('it is an orphan', sub { @{ api('GET', '/orphans')->{json} } });
stop_agent();

# and of which nobody knows any more that it had one
unlink glob "$dir/state/*/$fourth->{id}*";
virsh("net-update hatch delete ip-dhcp-host \"<host ip='$first->{guest_ip}'/>\" "
      . '--live --config');
like(virsh('net-dhcp-leases hatch'), qr/52:54:00:aa:bb:cc/, 'a lease is left');
start_agent(connect => 'qemu:///system', env => { HATCH_LOG_LEVEL => 'info' });
my $fifth = create_vm({ guest_ip => $first->{guest_ip},
                        guest_mac => '52:54:00:dd:ee:ff' });
create_route($fifth->{id}, 'fifth');
ok(answers('fifth'), 'and is no hindrance');

# asked before it was up
allow_log(qr/connect\(\) failed/);
done();
