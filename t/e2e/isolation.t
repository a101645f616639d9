#!/usr/bin/perl

# guest_isolation: guests reach the host, and nginx them, but not each other.
# Of VMs that were there before, it is true once their definition is written.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

# The demo guest, with a page that asks another one.
my $root = "$dir/extra";
mkdir $_ for "$dir/images", $root, "$root/www", "$root/www/cgi-bin";
write_file("$root/www/cgi-bin/ask", <<'END');
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
timeout 3 wget -q -O - "http://$QUERY_STRING/" 2> /dev/null || echo silence
END
chmod 0755, "$root/www/cgi-bin/ask";
my $image = "$Test::Hatch::build/image";
system("cp '$image/vmlinuz' '$dir/images/kernel' && cp '$image/initrd' "
       . "'$dir/images/initrd' && cd '$root' && find . | cpio -o -H newc "
       . "-R 0:0 --quiet | gzip >> '$dir/images/initrd'") == 0 or die;

sub start {
    my ($isolation) = @_;
    start_agent(connect => 'qemu:///system',
                env => { HATCH_LOG_LEVEL => 'info',
                         HATCH_GUEST_ISOLATION => $isolation });
}

sub guest {
    my ($name) = @_;
    my $vm = create_vm({ name => $name, image_id => $_[1],
                         idle_timeout => undef, save_after => undef });
    create_route($vm->{id}, $name);
    return $vm;
}

sub up {
    my ($name) = @_;
    return wait_until("$name is up", sub {
        (page($name) // {})->{status} == 200 }, 60);
}

# What guest `name` gets from an address.
sub asks {
    my ($name, $of) = @_;
    my $r = page($name, "/cgi-bin/ask?$of");
    return !$r || $r->{status} != 200 ? 'no answer'
           : $r->{body} =~ /Hello from a virtual machine/ ? 'a guest'
           : $r->{body} =~ /silence/ ? 'silence' : $r->{body};
}

# libvirt isolates a port by the files of this world's network
system('mount', '-t', 'sysfs', 'sysfs', '/sys') == 0 or die;

start('false');
start_nginx();
my $id = api('POST', '/images', { kernel_path => 'kernel',
                                  initrd_path => 'initrd' })->{json}{id};
my ($one, $two) = map guest($_, $id), qw(one two);
up($_) for qw(one two);
is(asks('one', $two->{guest_ip}), 'a guest', 'by default they reach each other');
unlike(virsh("dumpxml $one->{id}"), qr/isolated/, 'nothing is isolated');
stop_agent();

start('true');
my ($three, $four) = map guest($_, $id), qw(three four);
up($_) for qw(three four);
like(virsh("dumpxml $three->{id}"), qr/<port isolated='yes'/, 'isolated');
is(asks('three', $four->{guest_ip}), 'silence', 'three does not reach four');
is(asks('four', $three->{guest_ip}), 'silence', 'nor four three');
is(asks('three', $one->{guest_ip}), 'a guest', 'one of before it does');

# something on the host that answers, at the gateway's address
write_file("$dir/www.conf", <<"END");
pid $dir/www.pid;
error_log $dir/logs/www.log;
events { }
http { access_log off; server { listen 10.201.0.1:80;
       return 200 "Hello from the host\\n"; } }
END
system($Test::Hatch::nginx, '-c', "$dir/www.conf", '-e', "$dir/logs/www.log")
    == 0 or die;
is(asks('three', '10.201.0.1'), "Hello from the host\n", 'it reaches the host');
kill 'QUIT', slurp("$dir/www.pid") =~ /(\d+)/;

# also after its definition was written anew
for my $vm ($one, $two) {
    api('POST', "/vms/$vm->{id}/stop", { force => JSON::PP::true });
    is(api('PATCH', "/vms/$vm->{id}", { mem_mib => 160 })->{status}, 200,
       'changed');
    is(api('POST', "/vms/$vm->{id}/start")->{status}, 200, 'started');
}
up($_) for qw(one two);
is(asks('one', $two->{guest_ip}), 'silence', 'and those of before, changed');
is(asks('one', $three->{guest_ip}), 'silence', 'nor the others');

# saved and restored
virsh("managedsave --running $three->{id}");
wait_state($three->{id}, 'snapshotted');
up('three');
is(asks('three', $four->{guest_ip}), 'silence', 'also after a restore');

allow_log(qr/connect\(\) failed/);
done();
