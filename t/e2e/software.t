#!/usr/bin/perl

# A guest without KVM has a processor of x86-64-v2, as a named model, also
# after it was saved or restored from a snapshot; a VM of before keeps its own.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

# the guest shows its processor
my $cgi = "$dir/more/www/cgi-bin";
system('mkdir', '-p', $cgi);
write_file("$cgi/processor", <<'EOF_CGI');
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
sed -n '/^$/q; p' /proc/cpuinfo
cat /sys/devices/system/cpu/vulnerabilities/meltdown
EOF_CGI
chmod 0755, "$cgi/processor";
system("(cat $Test::Hatch::build/image/initrd; cd $dir/more && find . "
       . "| cpio -o -H newc 2>/dev/null | gzip) > $dir/initrd") == 0 or die;

start_agent(connect => 'qemu:///system',
            env => { HATCH_VIRT_TYPE => 'qemu',
                     HATCH_DEFAULT_INITRD_PATH => "$dir/initrd" });
start_nginx();
my $vm = create_vm()->{id};
create_route($vm, 'one');

# x86-64-v2 in the names of /proc/cpuinfo; QEMU's processor has no more to
# guard against than before
my @v2 = qw(cx16 lahf_lm pni popcnt sse4_1 sse4_2 ssse3);

sub processor {
    my ($what) = @_;
    my $text = page('one', '/cgi-bin/processor')->{body};
    my ($flags) = $text =~ /^flags\s*: (.*)$/m;
    my %has = map { $_ => 1 } split / /, $flags // '';
    is_deeply([grep !$has{$_}, @v2], [], "x86-64-v2: $what") or diag($text);
    like($text, qr/^Not affected$/m, 'which need not be slowed down');
    return $text;
}

is(page('one')->{status}, 200, 'a guest');
my $first = processor('when it has booted');
my $xml = virsh("dumpxml --inactive $vm");
like($xml, qr/<domain type='qemu'/, 'in software');
like($xml, qr/<cpu mode='custom' match='exact'.*>\s*<model [^>]*>qemu64</,
     'a named model');
my $qemu = slurp("/var/log/libvirt/qemu/$vm.log");
unlike($qemu, qr/warning|doesn't support/i, 'QEMU has nothing to say of it');

my $r = api('POST', "/vms/$vm/snapshot", { keep_running => JSON::PP::true });
is($r->{status}, 201, 'a snapshot') or diag($r->{body});
my $snapshot = $r->{json}{id};
is(api('POST', "/vms/$vm/snapshot", {})->{status}, 201, 'and to sleep');
is(page('one')->{status}, 200, 'woken from saved memory');
is(processor('saved and restored'), $first, 'the same processor');
is(api('POST', "/vms/$vm/stop", { force => JSON::PP::true })->{status}, 200,
   'stopped');
$r = api('POST', "/vms/$vm/restore", { snapshot_id => $snapshot });
is($r->{status}, 200, 'restored') or diag($r->{body});
is(processor('of a snapshot'), $first, 'the same processor');

# a VM of before, without a model
is(api('POST', "/vms/$vm/stop", { force => JSON::PP::true })->{status}, 200,
   'stopped');
$xml =~ s/<cpu .*?<\/cpu>//s or die;
write_file("$dir/old.xml", $xml);
virsh("define $dir/old.xml");
wait_until('the agent has seen it', sub {
    api('GET', "/vms/$vm")->{status} == 200 });
is(api('PATCH', "/vms/$vm", { mem_mib => 160 })->{status}, 200, 'changed');
unlike(virsh("dumpxml --inactive $vm"), qr/sse4/, 'it gets none');
is(api('POST', "/vms/$vm/start")->{status}, 200, 'it starts');
unlike(page('one', '/cgi-bin/processor')->{body}, qr/sse4_2/,
       'with the processor that it had');

done();
