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
is(api('POST', '/vms', { user_data => "#!x", guest_ip => $vm->{guest_ip} })
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

# --- what a guest gets, and what is none of cloud-init's formats ---

sub user_data_of {
    my ($body) = @_;
    my $vm = create_vm($body);
    system('rm', '-rf', "$dir/out/y");
    system("xorriso -osirrox on -indev $seeds/$vm->{id}.iso -extract / "
           . "$dir/out/y >/dev/null 2>&1");
    chmod 0755, "$dir/out/y";
    my $text = slurp("$dir/out/y/user-data");
    is(api('DELETE', "/vms/$vm->{id}")->{status}, 200, 'deleted');
    return $text;
}

my $mime = "Content-Type: multipart/mixed; boundary=\"b\"\r\n"
         . "MIME-Version: 1.0\r\n\r\n--b\r\n"
         . "Content-Type: text/x-shellscript\r\n\r\n#!/bin/sh\r\n--b--\r\n";
for (["#cloud-config\r\na: 1\r\n", 'CRLF stays'],
     ["#!/bin/sh\r\necho\r\n", 'in a script, too'],
     ["\n \t\r\n#Cloud-Config\na: 1\n", 'white space and case'],
     ["#cloud-config-archive\n- a\n", 'archive'],
     ["#cloud-boothook\n#!/bin/sh\n", 'boothook'],
     ["#include\nhttp://x/\n", 'include'],
     ["#include-once\nhttp://x/\n", 'include-once'],
     ["#part-handler\n", 'part-handler'],
     ["## template: jinja\n#cloud-config\n{{ v1.x }}: 1\n", 'Jinja'],
     ["## template: jinja\r\n#!/bin/sh\n", 'a script by Jinja'],
     ["## template: jinja\n{% if 1 %}\n#!/bin/sh\n{% endif %}\n", 'a block'],
     [$mime, 'MIME'], [$mime =~ s/\r//gr, 'MIME with LF'])
{
    my ($text, $what) = @$_;
    is(user_data_of({ user_data => $text }), $text, $what);
    is(user_data_of({ user_data => "\x{feff}$text" }), $text,
       "$what, without its byte order mark");
}

my $bom = "\x{feff}nothing of cloud-init's\r\n";
utf8::encode(my $raw = $bom);
is(user_data_of({ user_data => $bom, user_data_format => 'raw' }), $raw,
   'raw is raw, to the byte');
is(user_data_of({ user_data => "#!x", user_data_format => 'cloud-init' }),
   '#!x', 'the default, named');

my $ignored = 'would be ignored by cloud-init: it must begin with '
            . '#cloud-config, #!, ';
my $jinja = 'would be ignored by cloud-init: behind the line of the Jinja';
my @bad = (
    ['hello', $ignored], ["\n", $ignored], ["{}\n", $ignored],
    ["# comment\n#cloud-config\n", $ignored], ["cloud-config\n", $ignored],
    ["\n#!/bin/sh\n", $ignored], ["\x{feff}\x{feff}#!/bin/sh\n", $ignored],
    ["\x{a0}#cloud-config\n", $ignored], ["#upstart-job\n", $ignored],
    ["\n$mime", $ignored], ["Hi\nMIME-Version: 1.0\n", $ignored],
    ["MIME-Version: 1.0\n\nx", $ignored], ["Content-Type: a/b\n\nx", $ignored],
    ["X: " . 'x' x 4096 . "\nMIME-Version: 1.0\nContent-Type: a/b\n\n",
     $ignored],
    ["MIME-Version: 1.0", $ignored], [" MIME-Version: 1.0\n", $ignored],
    ["## template: jinja", $jinja],
    ["## template: jinja\nhello\n", $jinja],
    ["\n## template: jinja\n#cloud-config\n", $ignored],
    ["I2Nsb3VkLWNvbmZpZwp7fQo=", 'is base64, which cloud-init does not'],
    ["I2Nsb3Vk\nLWNvbmZpZwo=\n", 'is base64'],
    ["\x{1f}\x{8b}\x{8}\x{1}", 'is gzip, whose bytes JSON cannot carry'],
    ["\x{1f}\x{fffd}\x{8}\x{1}", 'is gzip'],
);
for (@bad) {
    my ($text, $words) = @$_;
    $r = api('POST', '/vms', { user_data => $text });
    is($r->{status}, 400, 'refused: ' . JSON::PP->new->ascii->allow_nonref
                          ->encode(substr $text, 0, 30));
    is($r->{json}{code}, 'invalid_field', 'the field');
    like($r->{json}{error}, qr/^"user_data" \Q$words/, 'and why');
}
for (['cloud', '"user_data_format" must be "cloud-init" or "raw", not "cloud"'],
     ['', '"user_data_format" must be 1 to 16 bytes long, not 0'],
     [1, '"user_data_format" must be a string, not 1'])
{
    my ($format, $words) = @$_;
    $r = api('POST', '/vms', { user_data => '#!',
                               user_data_format => $format });
    is("$r->{status} $r->{json}{error}", "400 $words", 'a format');
}
is(api('POST', '/vms', { user_data_format => 'raw' })->{json}{error},
   '"user_data_format" needs "user_data"', 'without user_data');

# --- templates: the format belongs to its user_data ---

$r = api('POST', '/templates', { name => 'bad', user_data => 'hello' });
is($r->{status}, 400, 'a template with one that would be ignored');
like($r->{json}{error}, qr/^"user_data" would be ignored/, 'says so');

my $t = api('POST', '/templates',
            { name => 't', user_data => 'hello', user_data_format => 'raw' });
is($t->{status}, 201, 'raw in a template') or diag $t->{body};
$t = $t->{json};
is($t->{user_data_format}, 'raw', 'shown');
is(user_data_of({ template_id => $t->{id} }), 'hello', 'a VM of it');
is(api('POST', '/vms', { template_id => $t->{id}, user_data => 'hi' })
   ->{status}, 400, 'another text is not raw');
is(user_data_of({ template_id => $t->{id}, user_data => "\x{feff}#!x" }),
   '#!x', 'but as always');
is(api('PATCH', "/templates/$t->{id}", { user_data_format => undef })
   ->{status}, 400, 'which it must not become');
is(api('PATCH', "/templates/$t->{id}", { user_data => 'other' })->{status},
   400, 'nor another text');
is(api('GET', "/templates/$t->{id}")->{json}{user_data}, 'hello',
   'nothing has changed');
$r = api('PATCH', "/templates/$t->{id}", { user_data => "#!y" });
is_deeply([@{ $r->{json} }{qw(user_data user_data_format)}], ['#!y', undef],
          'a text that is none of raw, without the format');
$r = api('PATCH', "/templates/$t->{id}",
         { user_data => 'z', user_data_format => 'raw' });
is($r->{status}, 200, 'both');
$r = api('PATCH', "/templates/$t->{id}", { user_data => undef });
is_deeply([sort keys %{ $r->{json} }],
          [qw(created_at id name updated_at)], 'neither');

# --- it cannot be written: the cause, and not a guess ---

system('mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', $seeds) == 0 or die;
$r = api('POST', '/vms', { user_data => '#!x' });
is($r->{status}, 507, 'a full disk');
is($r->{json}{code}, 'full', 'with its code');
like($r->{json}{error}, qr/cannot write ".*\.iso": No space left on device/,
     'says so');
is_deeply([glob "$seeds/*"], [], 'and leaves nothing');
is(api('GET', '/vms')->{body}, '[]', 'no VM either');

system('mount', '-o', 'remount,ro', $seeds) == 0 or die;
$r = api('POST', '/vms', { user_data => '#!x' });
is($r->{status}, 503, 'a disk that is read-only');
like($r->{json}{error}, qr/Read-only file system/, 'says so');
system('umount', $seeds);

# a tool that fails, crashes, is none, is not there
mkdir "$dir/bin";
symlink $_, "$dir/bin/" . s{.*/}{}r
    for grep -x, map "/usr/bin/$_", qw(qemu-img sh);
stop_agent();
start_agent(env => { PATH => "$dir/bin" });
for (['not installed', sub { }, 'cannot run "xorriso": it is not installed'],
     ['no permission', sub { chmod 0644, shift },
      'cannot run "xorriso": Permission denied'],
     ['refuses', sub { write_file(shift, "#!/bin/sh\necho 'x : FAILURE : a "
                       . "reason'\necho gives up\nexit 5\n") },
      'xorriso cannot write ".*": x : FAILURE : a reason'],
     ['is mute', sub { write_file(shift, "#!/bin/sh\nexit 5\n") },
      'xorriso cannot write ".*": it does not say why'],
     ['crashes', sub { write_file(shift, "#!/bin/sh\nkill -SEGV \$\$\n") },
      'cannot write the seed: signal 11 killed xorriso'])
{
    my ($what, $make, $words) = @$_;
    write_file("$dir/bin/xorriso", "#!/bin/sh\n") if $what ne 'not installed';
    chmod 0755, "$dir/bin/xorriso";
    $make->("$dir/bin/xorriso");
    $r = api('POST', '/vms', { user_data => '#!x' });
    is($r->{status}, 500, "xorriso: $what");
    like($r->{json}{error}, qr/$words/, 'says so');
    unlike($r->{json}{error}, qr/full|space/, 'and nothing of room');
    is_deeply([glob "$seeds/vm_*"], [], 'nothing is left');
}

# qemu-img
unlink "$dir/bin/qemu-img";
my $image = "$dir/images/x.qcow2";
system("qemu-img create -q -f qcow2 $image 1M");
$r = api('POST', '/images', { rootfs_path => 'x.qcow2' });
is($r->{status}, 500, 'no qemu-img is no fault of the image');
like($r->{json}{error}, qr/"rootfs_path".*cannot run "qemu-img": it is not/,
     'says so');
$r = api('POST', '/vms', { disk_mib => 1 });
is($r->{status}, 500, 'nor of the disk');
like($r->{json}{error}, qr/cannot create the disk: cannot run "qemu-img": it /,
     'says so');
symlink '/usr/bin/qemu-img', "$dir/bin/qemu-img";

my $disks = "$dir/state/disks";
system('mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', $disks) == 0 or die;
$r = api('POST', '/vms', { disk_mib => 1 });
is($r->{status}, 507, 'no room for a disk');
like($r->{json}{error}, qr/No space left on device/, 'says so');
system('umount', $disks);

# --check
unlink "$dir/bin/xorriso";
stop_agent();
my $said = qx(PATH=$dir/bin @{[join ' ', "$Test::Hatch::build/hatch-agent",
    '--check --connect test:///default', "--state-dir $dir/state",
    "--zone $dir/run/zone --socket $dir/run/agent.sock",
    "--wake-socket $dir/run/wake.sock --image-dir $dir/images"]} 2>&1);
is($?, 0, '--check passes');
like($said, qr/warning: there is no xorriso in PATH, .*\(Debian: apt install xorriso\)/,
     'and warns of a tool that is missing');
unlike($said, qr/qemu-img/, 'only of that');

done();
