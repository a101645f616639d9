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

# asked before it was up
allow_log(qr/connect\(\) failed/);
done();
