#!/usr/bin/perl

# user_data: a NoCloud seed per VM, gone with it, never shown.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent(env => { HATCH_RESYNC_INTERVAL => 1 });

my $seeds = "$dir/state/seeds";
my $secret = "#cloud-config\npassword: s3cret \"\x{e4}\" <&>\n";
my $r = api('POST', '/vms', { user_data => $secret });
is($r->{status}, 201, 'a VM with user_data') or diag $r->{body};
my $vm = $r->{json};
unlike($r->{body}, qr/s3cret|user_data/, 'which the answer does not show');
unlike(api('GET', $_)->{body}, qr/s3cret|user_data/, "nor does $_")
    for '/vms', "/vms/$vm->{id}";

my $iso = "$seeds/$vm->{id}.iso";
ok(-s $iso, 'a seed');
is((stat $iso)[2] & 07777, 0600, 'that only its owner may read');
is((stat $seeds)[2] & 07777, 0711, 'in a folder that nobody may list');
like(qx(xorriso -indev $iso -pvd_info 2>/dev/null), qr/Volume Id\s*:\s*CIDATA/,
     'with the label CIDATA');

mkdir "$dir/out";
system("xorriso -osirrox on -indev $iso -extract / $dir/out/x >/dev/null 2>&1");
chmod 0755, "$dir/out/x";
utf8::encode(my $bytes = $secret);
is(slurp("$dir/out/x/user-data"), $bytes, 'user-data to the byte');
like(slurp("$dir/out/x/meta-data"), qr/^instance-id: $vm->{id}$/m,
     'the VM\'s id as instance-id');
like(slurp("$dir/out/x/network-config"), qr/macaddress: "$vm->{guest_mac}"/,
     'the network by MAC');

is(api('POST', '/vms', { user_data => 'x' x 65537 })->{status}, 400,
   'more than 64 KiB');
is(api('POST', '/vms', { user_data => '' })->{status}, 400, 'nothing');
is(api('POST', '/vms', { user_data => 7 })->{status}, 400, 'no string');
is(api('POST', '/vms', { user_data => 'x', guest_ip => $vm->{guest_ip} })
   ->{status}, 409, 'a VM that is refused');
is_deeply([glob "$seeds/*"], [$iso], 'leaves no seed behind');

# what an agent that was killed may leave
mkdir "$seeds/vm_aaaaaaaaaaaaaaaa.d";
write_file("$seeds/vm_aaaaaaaaaaaaaaaa.d/user-data", 'x');
write_file("$seeds/vm_aaaaaaaaaaaaaaaa.iso", 'x');
write_file("$seeds/notes.txt", 'not ours');

is(api('DELETE', "/vms/$vm->{id}")->{status}, 200, 'delete');
ok(!-e $iso, 'the seed is gone');
wait_until('the rest is tidied', sub {
    "@{[glob qq($seeds/*)]}" eq "$seeds/notes.txt"
});
is_deeply([glob "$seeds/*"], ["$seeds/notes.txt"],
          'orphans are removed, what is not ours stays');

# no room for it
system('mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', $seeds) == 0 or die;
$r = api('POST', '/vms', { user_data => 'x' });
is($r->{status}, 500, 'a full disk');
like($r->{json}{error}, qr/xorriso cannot write ".*"; is the disk full\?/,
     'says so');
is_deeply([glob "$seeds/*"], [], 'and leaves nothing');
is(api('GET', '/vms')->{body}, '[]', 'no VM either');
system('umount', $seeds);

done();
