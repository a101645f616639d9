#!/usr/bin/perl

# /orphans without guests: snapshots whose record cannot be read, and that a
# deletion that comes to nothing leaves the note of an older operation.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $state = "$dir/state";

start_agent();
is(api('GET', '/orphans')->{body}, '[]', 'none');

for my $case (['POST', '/orphans', 405], ['DELETE', '/orphans', 405],
              ['PATCH', '/orphans/vm_aaaaaaaaaaaaaaaa', 405],
              ['GET', '/orphans/', 404], ['GET', '/orphans/x', 404],
              ['GET', '/orphans/..%2fx', 404],
              ['DELETE', '/orphans/..%2fdisks', 404],
              ['DELETE', '/orphans/' . 'x' x 300, 404],
              ['GET', '/orphans?limit=1001', 400],
              ['GET', '/orphans?name=x', 400],
              ['GET', '/orphans/x?limit=1', 400])
{
    my ($method, $path, $status) = @$case;
    is(api($method, $path)->{status}, $status, "$method $path");
}

my $vm = create_vm();
my $r = api('GET', "/orphans/$vm->{id}");
is($r->{status}, 404, 'a VM that is there is none');
$r = api('DELETE', "/orphans/$vm->{id}");
is($r->{status}, 409, 'nor deleted as one');
like($r->{json}{error}, qr/DELETE \/vms\/$vm->{id} deletes it/, 'says how');
is(api('GET', "/vms/$vm->{id}")->{status}, 200, 'it is there');

# --- snapshots without a record ---

my $snap = 'snap_aaaaaaaaaaaaaaaa';
mkdir "$state/snapshots/$snap" or die;
write_file("$state/snapshots/$snap/memory", 'x' x 1000);
write_file("$state/snapshots/$snap/disk.qcow2", 'x' x 10);
write_file("$state/snapshots/$snap.json", '{');
write_file("$state/snapshots/notes.txt", 'mine');

my $o = api('GET', "/orphans/$snap")->{json};
is($o->{kind}, 'snapshot', 'its record cannot be read');
is($o->{size_bytes}, 1011, 'its size');
is($o->{vm_id}, undef, 'nobody knows whose it is');
is_deeply(api('GET', '/orphans')->{json}, [$o], 'the list');

# the head of saved memory, as libvirt writes it
write_file("$state/snapshots/$snap/memory",
           'LibvirtQemudSave' . "\0" x 76
           . "<domain type='kvm'>\n  <name>$vm->{id}</name>\n</domain>\0QEVM");
is(api('GET', "/orphans/$snap")->{json}{vm_id}, $vm->{id},
   'its memory may tell');
write_file("$state/snapshots/$snap/memory",
           'x' x 92 . "<name>../../etc/passwd</name>");
is(api('GET', "/orphans/$snap")->{json}{vm_id}, undef, 'only a VM of Hatch\'s');

# one that is whole is none
my $whole = api('POST', "/vms/$vm->{id}/snapshot",
                { keep_running => JSON::PP::true })->{json}{id};
is(api('GET', "/orphans/$whole")->{status}, 404, 'one with a record');
is(api('DELETE', "/orphans/$whole")->{status}, 404, 'is not deleted here');
ok(-e "$state/snapshots/$whole.json", 'it is there');

is(api('DELETE', "/orphans/$snap")->{status}, 204, 'DELETE');
is(api('GET', "/orphans/$snap")->{status}, 404, 'it is gone');
is(join(' ', glob "$state/snapshots/$snap*"), '', 'with its files');
is(slurp("$state/snapshots/notes.txt"), 'mine', 'what is not ours stays');

# --- a deletion over an operation that has not ended ---

stop_agent();
my $id = 'vm_bbbbbbbbbbbbbbbb';
my $older = '{"operation":"restore","test":true,"place":"/default"}';
write_file("$state/pending/$id.json", $older);
write_file("$state/pending/$id.over.json",
           '{"operation":"delete","test":true,"place":"/default"}');
write_file("$state/disks/$id.qcow2", 'x');
start_agent();
wait_until('the deletion is gone on with', sub {
    !(() = glob "$state/{pending,disks}/$id*")
});
like(agent_log(), qr/$id: .*delet/, 'which the log says');

done();
