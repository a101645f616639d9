#!/usr/bin/perl

# GET and DELETE /orphans: what belongs to no VM that libvirt has is listed,
# counted, comes back with its domain, and goes by DELETE alone; that refuses
# while any domain on the host uses one of the files.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

guest_files();

sub agent {
    return guest_agent($_[0], HATCH_MAX_DISK_MIB => 100,
                       HATCH_RESYNC_INTERVAL => 1);
}

agent();
start_nginx();
my $image = guest_image();

sub orphans { return api('GET', '/orphans')->{json} }
sub orphan { return api('GET', "/orphans/$_[0]") }

is_deeply(orphans(), [], 'none at first');
is(orphan('vm_aaaaaaaaaaaaaaaa')->{status}, 404, 'no such');
is(orphan('vm_aaaaaaaaaaaaaaaa')->{json}{code}, 'orphan_not_found', 'code');
is(api('DELETE', '/orphans/vm_aaaaaaaaaaaaaaaa')->{status}, 404, 'DELETE');
is(metrics()->{hatch_orphans}, 0, 'the metric');

my $vm = create_vm({ image_id => $image, name => 'shop', disk_mib => 60,
                     idle_timeout => undef });
my $id = $vm->{id};
create_route($id, $_) for 'web', 'api2';
my $snap = api('POST', "/vms/$id/snapshot",
               { keep_running => JSON::PP::true })->{json}{id};
ok($snap, 'a snapshot');
is(api('POST', "/vms/$id/stop", { force => JSON::PP::true })->{status}, 200,
   'stop');
is(api('DELETE', "/orphans/$id")->{status}, 409, 'a VM is no orphan');
wait_until('its name is noted', sub { -e "$dir/state/vms/$id.json" });

my $xml = virsh("dumpxml --inactive $id");
write_file("$dir/vm.xml", $xml);

# --- undefined ---

virsh("undefine $id");
wait_until('it is gone', sub { (metrics()->{hatch_orphans} // 0) == 1 });
my $o = orphan($id)->{json};
is($o->{kind}, 'vm', 'an orphan');
is($o->{name}, 'shop', 'its name');
is($o->{guest_ip}, $vm->{guest_ip}, 'its address');
is($o->{disk_mib}, 60, 'the size of its disk');
is($o->{snapshots}, 1, 'its snapshots');
is($o->{routes}, 2, 'its routes');
is($o->{files}{disk}{bytes}, -s "$dir/state/disks/$id.qcow2", 'its disk');
is($o->{files}{snapshot}{count}, 3, 'memory, disk, record');
like($o->{since}, qr/^\d{4}-\d\d-\d\dT/, 'since when');
is_deeply(orphans(), [$o], 'the list');
is(zone()->{orphans}, 1, 'the zone');
is(healthz()->{json}{route_count}, 2, 'its routes count');
unlike(orphan($id)->{body}, qr/\Q$dir/, 'no path of the host is shown');

my $other = create_vm({ idle_timeout => undef });
isnt($other->{guest_ip}, $vm->{guest_ip}, 'its address stays taken');
my $r = api('POST', '/vms', { guest_ip => $vm->{guest_ip} });
is($r->{status}, 409, 'also for who asks for it');
like($r->{json}{error}, qr/in use by $id/, 'and says whose it is');
$r = api('POST', '/vms', { image_id => $image, disk_mib => 60 });
is($r->{status}, 403, 'its disk counts');
like($r->{json}{error}, qr/disk limit reached \(60\/100, 60 more/, 'says so');
$r = api('POST', "/vms/$other->{id}/routes",
         { subdomain => 'web', target_port => 80 });
is($r->{status}, 409, 'its subdomain is taken');
like($r->{json}{error}, qr/in use by orphan $id, .* DELETE \/orphans\/$id/,
     'by an orphan, which the error names');

$r = api('POST', '/vms', { name => 'shop' });
is($r->{status}, 409, 'its name is taken');
like($r->{json}{error}, qr/"shop" is taken by orphan $id, .* DELETE \/orphans\/$id/,
     'by an orphan, which the error names, too');
$r = api('PATCH', "/vms/$other->{id}", { name => 'shop' });
is($r->{status}, 409, 'also for a VM that is there');

# also when the network has been lost
virsh("net-destroy hatch");
virsh("net-undefine hatch");
is(api('POST', '/vms', { guest_ip => $vm->{guest_ip} })->{status}, 409,
   'its address stays taken without a reservation');

# the next agent knows all that
stop_agent('KILL');
agent();
wait_until('the next agent has looked', sub { @{ orphans() } == 1 });
is_deeply(orphan($id)->{json}, $o, 'and says the same');

# --- who uses it ---

sub refused {
    my ($what, $domain) = @_;
    my $r = api('DELETE', "/orphans/$id");
    is($r->{status}, 409, "$what: 409");
    like($r->{json}{error}, qr/domain "\Q$domain\E"/, 'which names the domain');
    ok(-e "$dir/state/disks/$id.qcow2", 'nothing is deleted');
}

(my $mine = $xml) =~ s{<name>.*?</name>}{<name>mine</name>};
$mine =~ s{<uuid>.*?</uuid>}{};
write_file("$dir/mine.xml", $mine);
virsh("define $dir/mine.xml");
is($?, 0, 'somebody\'s domain with its disk');
refused('another\'s domain', 'mine');
virsh('undefine mine');

# by another name of the file, and below a disk of its own
link "$dir/state/disks/$id.qcow2", "$dir/linked.qcow2" or die;
system('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b',
       "$dir/state/disks/$id.qcow2", "$dir/over.qcow2") == 0 or die;
for my $name ('linked', 'over') {
    (my $xml = $mine) =~ s{\Q$dir\E/state/disks/$id\.qcow2}{$dir/$name.qcow2};
    $xml =~ s{<backingStore.*?</backingStore>}{}s;
    $xml =~ s{\Q$dir\E/state/seeds/$id\.iso}{$dir/images/base.qcow2};
    unlike($xml, qr/state\/(?:disks|seeds)/, 'nothing of its by name');
    write_file("$dir/mine.xml", $xml);
    virsh("define $dir/mine.xml");
    refused($name, 'mine');
    virsh('undefine mine');
}

# a domain of its name that is none of Hatch's
(my $plain = $xml) =~ s{<metadata>.*?</metadata>}{}s;
$plain =~ s{<disk .*</disk>}{}s;
write_file("$dir/plain.xml", $plain);
virsh("define $dir/plain.xml");
refused('a domain of its name', $id);
virsh("undefine $id");

# --- back, and gone again ---

virsh("define $dir/vm.xml");
wait_until('it is back', sub { api('GET', "/vms/$id")->{status} == 200 });
is(api('GET', "/vms/$id")->{json}{name}, 'shop', 'with its name');
is_deeply(orphans(), [], 'no orphan any more');
wait_until('the metric follows',
           sub { (metrics()->{hatch_orphans} // 1) == 0 });
is(api('DELETE', "/orphans/$id")->{status}, 409, 'nor to be deleted as one');

# memory that was put aside, of a VM that is there
my $save = '/var/lib/libvirt/qemu/save';
system('mkdir', '-p', $save);
write_file("$save/$id.save.aside-20260101T000000Z", 'x' x 100);
$o = orphan($id)->{json};
is($o->{kind}, 'saved_memory', 'memory that was put aside');
is($o->{size_bytes}, 100, 'its size');
is($o->{vm_id}, $id, 'its VM');
is(api('DELETE', "/orphans/$id")->{status}, 204, 'DELETE');
ok(!-e "$save/$id.save.aside-20260101T000000Z", 'deletes it');
ok(-e "$dir/state/disks/$id.qcow2", 'and nothing else');
is(api('GET', "/vms/$id")->{status}, 200, 'the VM is there');

# a snapshot whose record cannot be read, of a VM that is there
my $record = slurp("$dir/state/snapshots/$snap.json");
stop_agent();
write_file("$dir/state/snapshots/$snap.json", '{');
agent();
$o = orphan($snap)->{json};
is($o->{kind}, 'snapshot', 'a snapshot without a record');
is($o->{vm_id}, $id, 'its memory says whose it is');
is($o->{files}{snapshot}{count}, 3, 'its files');
is_deeply([map $_->{id}, @{ orphans() }], [$snap], 'the list');
virsh("undefine $id");
wait_until('its VM is gone', sub { orphan($id)->{status} == 200 });
is(orphan($snap)->{status}, 404, 'then it is the VM\'s');
is(orphan($id)->{json}{snapshots}, 1, 'which has it');

# pages
write_file("$dir/state/disks/vm_$_.qcow2", 'x')
    for 'aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb';
my @all = map $_->{id}, @{ orphans() };
is(scalar @all, 3, 'three');
my (@seen, $next);
for ($next = '/orphans?limit=1'; $next; ) {
    my $r = api('GET', $next);
    push @seen, map $_->{id}, @{ $r->{json} };
    ($next) = ($r->{headers}{link} // '') =~ /^<(.*?)>; rel="next"$/;
}
is_deeply(\@seen, \@all, 'page by page');
is(api('GET', "/orphans?after=$all[1]")->{json}[0]{id}, $all[2], 'after');
for my $bad ('limit=0', 'limit=x', 'after=x', 'after=vm_cccccccccccccccc',
             'state=x')
{
    is(api('GET', "/orphans?$bad")->{status}, 400, $bad);
}

# --- an operation that has not ended ---

stop_agent();
write_file("$dir/state/pending/vm_aaaaaaaaaaaaaaaa.json",
           '{"operation":"restore","test":false,"place":"/system"}');
agent();
$r = api('DELETE', '/orphans/vm_aaaaaaaaaaaaaaaa');
is($r->{status}, 204, 'a restore that waits for its VM') or diag $r->{body};
is(join(' ', glob "$dir/state/*/vm_aaaaaaaaaaaaaaaa*"), '', 'goes as well');

# --- DELETE ---

write_file("$save/$id.save", 'x');
is(api('DELETE', "/orphans/$id")->{status}, 204, 'DELETE');
is(join(' ', glob("$dir/state/*/$id*"), glob("$dir/state/snapshots/*"),
        glob "$save/$id*"), '', 'its files are gone');
is(healthz()->{json}{route_count}, 0, 'and routes');
unlike(virsh('net-dumpxml --inactive hatch'), qr/\Q$vm->{guest_mac}/,
       'and its address');
is(orphan($id)->{status}, 404, 'there is no such orphan');
is(api('DELETE', "/orphans/$id")->{status}, 404, 'any more');
is(api('DELETE', '/orphans/vm_bbbbbbbbbbbbbbbb')->{status}, 204, 'the other');
ok(create_route($other->{id}, 'web'), 'its subdomain is free');
is(api('PATCH', "/vms/$other->{id}", { name => 'shop' })->{status}, 200,
   'its name is free');
wait_until('the metric', sub { (metrics()->{hatch_orphans} // 1) == 0 });

# --- libvirt comes up without its definitions ---

is(api('POST', "/vms/$other->{id}/stop",
       { force => JSON::PP::true })->{status}, 200, 'stop');
stop_libvirtd();
system("mkdir $dir/qemu && mv /etc/libvirt/qemu/*.xml $dir/qemu") == 0 or die;
start_libvirtd();
wait_until('an orphan', sub { (metrics()->{hatch_orphans} // 0) == 1 });
is(orphan($other->{id})->{json}{routes}, 1, 'with its route');
is(healthz()->{json}{route_count}, 1, 'all routes are there');
stop_libvirtd();
system("mv $dir/qemu/*.xml /etc/libvirt/qemu") == 0 or die;
start_libvirtd();
wait_until('it is back',
           sub { (api('GET', "/vms/$other->{id}") // {})->{status} == 200 });
is_deeply(orphans(), [], 'no orphan');

# --- a DELETE that fails over an operation that has not ended ---

stop_agent();
my $note = "$dir/state/pending/$other->{id}.json";
my $older = '{"operation":"restore"';       # what it says nobody can read
write_file($note, $older);
agent('delete.noted:fail');
$r = api('DELETE', "/vms/$other->{id}");
is($r->{status}, 500, 'a DELETE that fails') or diag $r->{body};
is(api('GET', "/vms/$other->{id}")->{status}, 200, 'the VM is there');
is(slurp($note), $older, 'the older note is there');
is(join(' ', glob "$dir/state/pending/*"), $note, 'and no other');
is(api('POST', "/vms/$other->{id}/start")->{status}, 503,
   'it still has to be recovered');
stop_agent();
agent();
is(api('POST', "/vms/$other->{id}/start")->{status}, 503, 'also later');
is(api('DELETE', "/vms/$other->{id}")->{status}, 200, 'delete it');
is(join(' ', glob "$dir/state/pending/*"), '', 'no note is left');
wait_until('nothing is left',
           sub { !(() = glob "$dir/state/{disks,seeds,vms,saved}/*") });

done();
