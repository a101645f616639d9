#!/usr/bin/perl

# A guest that says it is another one: by MAC, by address, by ARP, by DHCP.
# Neither host nor guests believe it, as their pages show.  The rules are there
# before the guest is, and again when somebody removed them.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

# The demo guest, with a page that runs what it is sent.
sub image {
    my $root = "$dir/extra";
    mkdir $_ for "$dir/images", $root, "$root/www", "$root/www/cgi-bin";
    write_file("$root/www/cgi-bin/run", <<'END');
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
head -c "${CONTENT_LENGTH:-0}" > /tmp/run
sh /tmp/run 2>&1
END
    write_file("$root/www/cgi-bin/who", <<'END');
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
sed 's/.*hatch.who=\([a-z]*\).*/\1/' /proc/cmdline
END
    chmod 0755, glob "$root/www/cgi-bin/*";
    my $image = "$Test::Hatch::build/image";
    system("cp '$image/vmlinuz' '$dir/images/kernel' && cp '$image/initrd' "
           . "'$dir/images/initrd' && cd '$root' && find . | cpio -o -H newc "
           . "-R 0:0 --quiet | gzip >> '$dir/images/initrd'") == 0 or die;
    my $r = api('POST', '/images', { kernel_path => 'kernel',
                                     initrd_path => 'initrd' });
    is($r->{status}, 201, 'the image') or diag($r->{body});
    return $r->{json}{id};
}

my $image;

sub guest {
    my ($name, %fields) = @_;
    my $vm = create_vm({ name => $name, image_id => $image,
                         idle_timeout => undef, save_after => undef,
                         boot_args => "console=ttyS0 quiet reboot=t panic=-1 "
                             . "no_timer_check tsc=reliable hatch.who=$name",
                         %fields }) or return;
    create_route($vm->{id}, $name);
    return $vm;
}

# Who answers at an address, as the host sees it; '' if nobody does.
sub host_sees {
    my ($ip) = @_;
    my $text = qx(busybox timeout 3 busybox wget -q -O - http://$ip/cgi-bin/who 2>/dev/null);
    $text =~ s/\s+//g;
    return $text;
}

# Runs a script in a guest.
sub run {
    my ($name, $script) = @_;
    my $r = page($name, '/cgi-bin/run', 'POST', $script);
    return $r && $r->{status} == 200 ? $r->{body} : undef;
}

sub guest_sees {
    my ($name, $ip) = @_;
    my $text = run($name, "timeout 3 wget -q -O - http://$ip/cgi-bin/who "
                          . "2> /dev/null || :\n") // return '(no answer)';
    $text =~ s/^Terminated$//m;
    $text =~ s/\s+//g;
    return $text;
}

sub up {
    my ($name) = @_;
    return wait_until("$name is up", sub {
        (page($name, '/cgi-bin/who') // {})->{body} =~ /^\Q$name\E$/ }, 60);
}

# What a guest does behind its own back: it cannot be reached meanwhile, and
# is as it was at the end.
my $told = 0;
sub attack {
    my ($name, $own, $script) = @_;
    $told++;
    run($name, <<"END");
cat > /tmp/attack <<'X'
exec > /tmp/told.$told 2>&1 < /dev/null
$script
ip link set eth0 down
ip link set eth0 address $own->{guest_mac}
ip link set eth0 up
ip addr flush dev eth0
ip addr add $own->{guest_ip}/20 dev eth0
ip route add default via 10.201.0.1
echo over
X
sh /tmp/attack > /dev/null 2>&1 < /dev/null &
END
}

sub attacked {
    my ($name) = @_;
    my $text;
    wait_until("$name is back", sub {
        $text = run($name, "cat /tmp/told.$told\n") // '';
        $text =~ /^over$/m }, 60);
    return $text;
}

# To the kernel's nf_tables: removes a table, or all.
sub remove_rules {
    my ($table) = @_;
    my $message = sub {
        my ($type, $flags, $family, $resource, $attribute) = @_;
        my $body = pack('CCn', $family, 0, $resource) . $attribute;
        return pack('LSSLL', 16 + length $body, $type, $flags, 1, 0) . $body;
    };
    my $name = $table ? pack('SSa*x', 5 + length $table, 1, $table) : '';
    $name .= "\0" x (-length($name) % 4);
    socket my $netlink, 16, 3, 12 or die "netlink: $!";
    send $netlink, $message->(0x10, 1, 0, 10, '')
        . $message->(10 << 8 | 2, 5, $table ? 7 : 0, 0, $name)
        . $message->(0x11, 1, 0, 10, ''), 0 or die "netlink: $!";
    recv $netlink, my $answer, 4096, 0;
    return unpack 'x16l', $answer;
}

sub made { my $n = () = agent_log() =~ /own addresses, table bridge/g; return $n }

start_agent(connect => 'qemu:///system');
start_nginx();
$image = image();

my $victim = guest('victim');
my $mallory = guest('mallory');
my $witness = guest('witness');
ok(up($_), "$_ is up") for qw(victim mallory witness);

my ($v, $m) = ($victim->{guest_ip}, $mallory->{guest_ip});
is(host_sees($v), 'victim', 'the host sees the victim');
is(guest_sees('witness', $v), 'victim', 'so does another guest');
is(guest_sees('mallory', $v), 'victim', 'and mallory');
like(virsh("dumpxml $mallory->{id}"),
     qr/<target dev='hv0ac9000[0-9a-f]'/, 'a port is named by its address');

# Both caches forget: whoever speaks first would be believed.
sub forget {
    system("ip neigh flush dev hatch0 >/dev/null 2>&1");
    run('witness', "ip neigh flush dev eth0\n");
}

sub nobody_is_fooled {
    my ($what) = @_;
    forget();
    is(host_sees($v), 'victim', "$what: the host sees the victim");
    is(guest_sees('witness', $v), 'victim', "$what: so does the witness");
}

# --- the address ---

sub take_address {
    attack('mallory', $mallory, <<"END");
ip addr flush dev eth0
ip addr add $v/20 dev eth0
for i in 1 2 3 4 5 6 7 8; do
    arping -U -c 1 -I eth0 $v
    ping -c 1 -W 1 10.201.0.1
done
END
}

take_address();
nobody_is_fooled('its address, while it is used');
my $text = attacked('mallory');
like($text, qr/100% packet loss/, 'nothing came back to mallory');

# the victim is silent: there is nobody to contradict
is(api('POST', "/vms/$victim->{id}/pause")->{status}, 200, 'it sleeps');
take_address();
forget();
is(host_sees($v), '', 'asleep: the host sees nobody');
is(guest_sees('witness', $v), '', 'nor does the witness');
attacked('mallory');
is(api('POST', "/vms/$victim->{id}/resume")->{status}, 200, 'it is awake');

# --- ARP in somebody else's name, from its own MAC and address ---

attack('mallory', $mallory, <<"END");
ip addr add $v/32 dev eth0
for i in 1 2 3 4 5 6; do
    arping -A -c 1 -s $v -I eth0 10.201.0.1
    arping -A -c 1 -s $v -I eth0 $witness->{guest_ip}
    arping -U -c 1 -s 10.201.0.1 -I eth0 $witness->{guest_ip}
done
END
nobody_is_fooled('ARP');
my $neighbours = run('witness', "ip neigh\n");
unlike($neighbours, qr/\Q$mallory->{guest_mac}/, 'the witness has nothing of it')
    or diag($neighbours);
attacked('mallory');

# --- the MAC ---

attack('mallory', $mallory, <<"END");
ip link set eth0 down
ip link set eth0 address $victim->{guest_mac}
ip link set eth0 up
ip addr add $v/20 dev eth0
for i in 1 2 3 4 5 6 7 8; do
    arping -U -c 1 -I eth0 $v
    ping -c 1 -W 1 10.201.0.1
done
END
my $port = sprintf 'hv%08x', unpack 'N', pack 'C4', split /\./, $m;
for (1 .. 3) {
    nobody_is_fooled("MAC and address, $_");
    my $fdb = qx(bridge fdb show br hatch0 2>/dev/null);
    unlike($fdb, qr/^\Q$victim->{guest_mac}\E dev $port\b/m,
        'the bridge has not learned it');
}
like(attacked('mallory'), qr/100% packet loss/, 'nothing came back');

# --- DHCP: a server of its own, and a lease in the victim's name ---

my $mac = $victim->{guest_mac};
attack('mallory', $mallory, <<"END");
ip link set eth0 down
ip link set eth0 address $mac
ip link set eth0 up
udhcpc -i eth0 -f -q -n -t 3 -T 1 -s /bin/true && echo got a lease
END
unlike(attacked('mallory'), qr/got a lease/, 'no lease for the MAC of another');

# --- somebody removes the rules ---

my $before = made();
is(remove_rules(undef), 0, 'all rules of the host are flushed');
ok(wait_until('they are made anew', sub { made() > $before }), 'made anew');
like(agent_log(), qr/warn: somebody removed what keeps guests/, 'told');
take_address();
nobody_is_fooled('after a flush');
attacked('mallory');

# --- libvirtd and the agent ---

stop_libvirtd();
start_libvirtd();
stop_agent();
take_address();
nobody_is_fooled('without an agent');
attacked('mallory');
start_agent(connect => 'qemu:///system');
nobody_is_fooled('with the next agent');

# --- a domain of before: its port has the name that libvirt chose ---

is(api('POST', "/vms/$mallory->{id}/stop", { force => JSON::PP::true })
       ->{status}, 200, 'stopped');
my $xml = virsh("dumpxml --inactive $mallory->{id}");
$xml =~ s/<target dev='hv[^>]*>//;
write_file("$dir/old.xml", $xml);
virsh("define $dir/old.xml");
is(api('POST', "/vms/$mallory->{id}/start")->{status}, 200, 'started');
like(virsh("domiflist $mallory->{id}"), qr/^\s*vnet\d/m, 'a port of before');
ok(up('mallory'), 'it has its address');
take_address();
nobody_is_fooled('a port of before');
like(attacked('mallory'), qr/100% packet loss/, 'nothing came back');

# a change of its hardware gives it its name
api('POST', "/vms/$mallory->{id}/stop", { force => JSON::PP::true });
is(api('PATCH', "/vms/$mallory->{id}", { mem_mib => 160 })->{status}, 200,
   'changed');
like(virsh("dumpxml --inactive $mallory->{id}"), qr/<target dev='hv0ac9/,
     'and named');

# --- all of them gone, and without protection ---

is(api('DELETE', "/vms/$mallory->{id}")->{status}, 200, 'mallory is deleted');
stop_agent();
start_agent(connect => 'qemu:///system',
            env => { HATCH_SPOOF_PROTECTION => 'false' });
is(remove_rules('hatch0'), -2, 'without spoof_protection there is no table');

allow_log(qr/connect\(\) failed/);
done();
