#!/usr/bin/perl

# The network: what of the configuration and of requests is refused, and a
# network that is not as the configuration says.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

our $agent = "$Test::Hatch::build/hatch-agent";
my @dirs = ('--zone', "$dir/run/zone", '--socket', "$dir/run/agent.sock",
            '--wake-socket', "$dir/run/wake.sock", '--state-dir',
            "$dir/state", '--image-dir', "$dir/images");

# What `hatch-agent --check` says, or the agent when it starts.
sub said {
    my ($env, @args) = @_;
    local %ENV = (%ENV, HATCH_LOG_LEVEL => 'warn', %$env);
    my $text = qx(timeout 20 '$agent' --connect qemu:///system @dirs @args 2>&1);
    return ($? >> 8, $text);
}

# --- keys ---

for my $key (qw(spoof_protection guest_isolation)) {
    my ($rc, $text) = said({ "HATCH_\U$key" => 'yes' }, '--check');
    is($rc, 1, "$key: yes");
    like($text, qr/HATCH_\U$key\E: "$key" must be true or false, not "yes"/,
         'is refused by name');

    write_file("$dir/bad.json", qq({ "$key": 1 }));
    ($rc, $text) = said({}, '--check', '--config', "$dir/bad.json");
    is($rc, 1, "$key: 1");
    like($text, qr/"$key" must be/, 'is refused by name, too');

    write_file("$dir/good.json", qq({ "$key": false }));
    ($rc, $text) = said({}, '--check', '--config', "$dir/good.json");
    is($rc, 0, "$key: false") or diag($text);
}

# --- addresses that cannot be ---

start_agent(connect => 'qemu:///system');
create_vm({ name => 'first' }) or die;
my ($gateway) = virsh('net-dumpxml hatch') =~ /<mac address='([^']+)'/;

sub refused {
    my ($fields, $words) = @_;
    my ($what) = map "$_ $fields->{$_}", sort keys %$fields;
    my $r = api('POST', '/vms', $fields);
    is($r->{status}, 400, $what) or diag($r->{body});
    is($r->{json}{code}, 'invalid_field', "$what: code");
    like($r->{json}{error}, $words, "$what: why");
}

refused({ guest_mac => $_ }, qr/"guest_mac" must be a unicast .*\Q"$_"/)
    for qw(00:00:00:00:00:00 ff:ff:ff:ff:ff:ff 01:00:5e:00:00:01
           33:33:00:00:00:01 53:54:00:00:00:01 fd:00:00:00:00:01 52:54:00
           52-54-00-00-00-01 52:54:00:00:00:0g);
refused({ guest_mac => $_ }, qr/"guest_mac" must not begin with fe.*\Q"$_"/)
    for qw(fe:54:00:00:00:01 FE:54:00:00:00:01);
refused({ guest_mac => $_ }, qr/"guest_mac" must not be the MAC of the network's gateway/)
    for $gateway, uc $gateway;
refused({ guest_ip => $_ }, qr/"guest_ip" must be/)
    for qw(0.0.0.0 10.201.0.0 10.201.0.1 10.201.15.255 10.202.0.1 224.0.0.1
           127.0.0.1 10.201.0 ::1);

# what libvirt does take
my @kept = map create_vm({ guest_mac => $_ }),
           qw(02:00:00:00:00:01 fc:00:00:00:00:01 00:00:00:00:00:01);
is(scalar(grep $_, @kept), 3, 'other addresses are taken');

# --- the network is asked for once ---

my $id = $kept[0]{id};
api('POST', "/vms/$id/stop", { force => JSON::PP::true });
virsh('net-destroy hatch');
is(api('POST', "/vms/$id/start")->{status}, 200, 'a network that was stopped');
like(virsh('net-list --name'), qr/^hatch$/m, 'runs again');
virsh("net-update hatch delete ip-dhcp-host "
      . "\"<host ip='$kept[0]{guest_ip}'/>\" --live --config");
stop_agent();
start_agent(connect => 'qemu:///system');
ok(wait_until('its reservation is back', sub {
    virsh('net-dumpxml hatch') =~ /ip='\Q$kept[0]{guest_ip}'/ }),
   'a reservation that was taken away is back');

# --- a configuration that was changed ---

stop_agent();
my %other = (
    HATCH_BRIDGE_CIDR => [ '10.77.0.1/24',
        qr{"bridge_cidr" is "10.77.0.1/24", but "10.201.0.1/20" in network "hatch", where 4 VMs have an address: set it back, or delete them first, or name another "network_name"} ],
    HATCH_BRIDGE_NAME => [ 'hatch7',
        qr{"bridge_name" is "hatch7", but "hatch0" in network "hatch", where 4} ],
);

for my $key (sort keys %other) {
    my ($value, $words) = @{ $other{$key} };
    my ($rc, $text) = said({ $key => $value }, '--check');
    is($rc, 1, "--check with another $key");
    like($text, $words, 'names both');
    ($rc, $text) = said({ $key => $value });
    is($rc, 1, 'an agent does not start');
    like($text, $words, 'and says the same');
}

start_agent(connect => 'qemu:///system');
is(api('DELETE', "/vms/$_->{id}")->{status}, 200, 'deleted')
    for @{ api('GET', '/vms')->{json} };
stop_agent();

my ($rc, $text) = said({ HATCH_BRIDGE_CIDR => '10.77.0.1/24',
                         HATCH_BRIDGE_NAME => 'hatch7' }, '--check');
is($rc, 0, '--check once nobody has an address') or diag($text);
like(virsh('net-dumpxml hatch'), qr/bridge name='hatch0'/, 'it changes nothing');

start_agent(connect => 'qemu:///system',
            env => { HATCH_BRIDGE_CIDR => '10.77.0.1/24',
                     HATCH_BRIDGE_NAME => 'hatch7' });
like(create_vm()->{guest_ip}, qr/^10\.77\.0\.\d+$/, 'the network is made anew');
like(virsh('net-dumpxml hatch'), qr/bridge name='hatch7'/, 'with its bridge');
stop_agent();

# --- an agent that may not make the rules ---

my @less = ('setpriv', '--bounding-set', '-net_admin', '--');
{
    local $agent = join "' '", @less, $agent;
    ($rc, $text) = said({ HATCH_BRIDGE_CIDR => '10.77.0.1/24',
                          HATCH_BRIDGE_NAME => 'hatch7' }, '--check');
}
is($rc, 0, '--check without CAP_NET_ADMIN') or diag($text);
like($text, qr/warning: guests will not be kept to their own addresses: the agent lacks CAP_NET_ADMIN/,
     'warns');

# --- somebody's own network, with IPv6 first ---

write_file("$dir/six.xml", <<'END');
<network><name>six</name><forward mode='nat'/>
<bridge name='six0' stp='off'/>
<ip family='ipv6' address='fd00:6::1' prefix='64'>
  <dhcp><range start='fd00:6::10' end='fd00:6::20'/></dhcp></ip>
<ip address='10.66.0.1' netmask='255.255.255.0'>
  <dhcp><range start='10.66.0.100' end='10.66.0.200'/></dhcp></ip>
</network>
END
virsh("net-define $dir/six.xml");
start_agent(connect => 'qemu:///system',
            env => { HATCH_NETWORK_NAME => 'six' });
my $six = create_vm();
like($six->{guest_ip}, qr/^10\.66\.0\.\d+$/, 'its IPv4 address is found');
like(virsh('net-dumpxml six'), qr/<host mac='\Q$six->{guest_mac}\E' ip='\Q$six->{guest_ip}'/,
     'with a reservation');
is(api('DELETE', "/vms/$six->{id}")->{status}, 200, 'deleted');
unlike(virsh('net-dumpxml six'), qr/<host /, 'and gone');

allow_log(qr/"bridge_(cidr|name)" is/);
done();
