#!/usr/bin/perl

# What libvirt does not have any more is kept, and used again when it is back;
# only DELETE deletes.  Nor does another agent, another driver of libvirt, a
# record that cannot be read or a full disk cost anything.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Guest;
use Test::More;

allow_log(qr/\[error\].*(?:prematurely closed|Connection refused|reset by|connect\(\) to unix)/);

# a disk of its own, which will be full
mkdir "$dir/state";
system('mount', '-t', 'tmpfs', '-o', 'size=256m', 'tmpfs', "$dir/state") == 0
    or die;
guest_files();

sub agent { return guest_agent(undef, HATCH_RESYNC_INTERVAL => 1) }

agent();
start_nginx();
my $image = guest_image();

sub vm { return create_vm({ image_id => $image, idle_timeout => undef, @_ }) }

my $vm = vm();
my $id = $vm->{id};
create_route($id, $_) for 'web', 'api2';

sub guest { return guest_state('web', @_) }

sub files {
    return join ' ', sort grep -e, "$dir/state/disks/$id.qcow2",
                     "$dir/state/seeds/$id.iso", glob "$dir/state/snapshots/*";
}

is(guest('mine'), 'mine/mine', 'something to lose');
my $snap = api('POST', "/vms/$id/snapshot", { keep_running => JSON::PP::true })
           ->{json}{id};
ok($snap, 'a snapshot');
my $files = files();
like($files, qr/\Q$id\E\.qcow2.*\Q$id\E\.iso.*\Q$snap/, 'files');
is(api('POST', "/vms/$id/stop", { force => JSON::PP::true })->{status}, 200,
   'stop');
my $xml = virsh("dumpxml --inactive $id");

# Gone, and all of it is there.
sub kept {
    my ($what) = @_;
    wait_until("$what: gone", sub { healthz()->{json}{vm_count} == 0 });
    is(api('GET', "/vms/$id")->{status}, 404, "$what: it is no VM");
    wait_until('the log', sub {
        agent_log() =~ /$id: libvirt has no such VM; its files .* are kept/
    });
    is(scalar(() = agent_log() =~ /$id: libvirt has no such VM/g), 1,
       'one line says what is kept');
    is(files(), $files, 'its files');
    is(healthz()->{json}{route_count}, 2, 'its routes');
    is(page('web')->{status}, 404, 'which lead nowhere');
    like(virsh("net-dumpxml --inactive hatch"), qr/\Q$vm->{guest_mac}/,
         'its reservation');
    my $other = create_vm({ idle_timeout => undef });
    isnt($other->{guest_ip}, $vm->{guest_ip}, 'its address is not given away');
    my $r = api('POST', '/vms', { guest_mac => $vm->{guest_mac} });
    is($r->{status}, 409, 'nor its MAC');
    like($r->{json}{error},
         qr/"guest_mac" is in use by (?:a reservation|\Q$id\E)/,
         'it is reserved');
    is(api('DELETE', "/vms/$other->{id}")->{status}, 200, 'delete another');
    is(files(), $files, 'which costs it nothing');
}

sub back {
    my ($what) = @_;
    wait_until("$what: back", sub {
        (api('GET', "/vms/$id")->{json}{state} // '') eq 'stopped'
    });
    wait_until('the log', sub { agent_log() =~ /$id: is back/ });
    is(guest(), '/mine', "$what: it wakes at its route, with its disk");
    is(api('POST', "/vms/$id/stop", { force => JSON::PP::true })->{status},
       200, 'stop');
    is(scalar @{ api('GET', "/vms/$id/snapshots")->{json} }, 1, 'a snapshot');
    stop_agent();
    unlink "$dir/logs/agent.log";
    agent();
}

# --- renamed ---

virsh("domrename $id mine");
is($?, 0, 'virsh domrename');
kept('renamed');
like(virsh('list --all --name'), qr/^mine$/m, 'the domain is somebody\'s');
virsh("domrename mine $id");
back('renamed back');

# to a name that a VM of ours could have
virsh("domrename $id vm_aaaaaaaaaaaaaaaa");
kept('renamed to another VM\'s name');
is(api('GET', '/vms/vm_aaaaaaaaaaaaaaaa')->{status}, 404, 'and is none');
virsh("domrename vm_aaaaaaaaaaaaaaaa $id");
back('renamed back');

# --- undefined and defined again ---

virsh("undefine $id");
kept('undefined');
write_file("$dir/again.xml", $xml);
virsh("define $dir/again.xml");
back('defined again');

# the same while no agent runs
stop_agent();
virsh("undefine $id");
agent();
kept('undefined without an agent');
virsh("define $dir/again.xml");
back('defined again');

# a copy of its definition is no VM of Hatch's
(my $copy = $xml) =~ s{<name>.*?</name>}{<name>vm_bbbbbbbbbbbbbbbb</name>};
$copy =~ s{<uuid>.*?</uuid>}{};
$copy =~ s{<mac address.*?/>}{};
write_file("$dir/copy.xml", $copy);
virsh("define $dir/copy.xml");
is($?, 0, 'a copy is defined') or diag virsh("define $dir/copy.xml");
wait_until('a comparison',
           sub { virsh('domstate vm_bbbbbbbbbbbbbbbb') =~ /shut off/ });
is(api('GET', '/vms/vm_bbbbbbbbbbbbbbbb')->{status}, 404,
   'it is not taken for a VM');
virsh('undefine vm_bbbbbbbbbbbbbbbb');
is(files(), $files, 'which costs nothing');

# --- a record that cannot be read ---

my $record = "$dir/state/snapshots/$snap.json";
my $text = slurp($record);
for my $broken ('{"id":', '', '[]') {
    stop_agent();
    unlink "$dir/logs/agent.log";
    write_file($record, $broken);
    agent();
    like(agent_log(), qr/snapshots\/$snap\.json is ignored/, 'a broken record');
    like(agent_log(), qr/snapshot $snap has no record .* are kept/,
         'its files are kept, says the log');
    is(api('GET', "/snapshots/$snap")->{status}, 404, 'it cannot be used');
    is(files(), $files, 'and all is there');
}
stop_agent();
unlink $record or die;
agent();
like(agent_log(), qr/snapshot $snap has no record/, 'no record at all');
is(files(), join(' ', grep $_ ne $record, split / /, $files), 'kept as well');
stop_agent();
write_file($record, $text);
agent();
is(api('GET', "/snapshots/$snap")->{status}, 200, 'put back: it is there');

# a copy put back over the mark of its deletion
stop_agent();
write_file("$dir/state/snapshots/$snap.gone", '');
agent();
is(files(), $files, 'a mark beside a record deletes nothing');
is(api('GET', "/snapshots/$snap")->{status}, 200, 'it is there');

# --- another driver of libvirt ---

stop_agent();
$files = files();
my $other = spawn("$dir/logs/other.log", "$Test::Hatch::build/hatch-agent",
                  '--connect', 'test:///default', '--zone', "$dir/run/zone",
                  '--socket', "$dir/run/agent.sock",
                  '--wake-socket', "$dir/run/wake.sock",
                  '--state-dir', "$dir/state", '--image-dir', "$dir/images");
is(reap($other) >> 8, 1, 'test:///default: does not start');
like(slurp("$dir/logs/other.log"),
     qr/has the VMs of qemu:\/\/\/system, not of test:\/\/\/default;/,
     'and says why');
is(files(), $files, 'all files are there');

# without the mark, files that libvirt knows the VM of are its own
unlink "$dir/state/owner.json" or die;
agent();
ok(-e "$dir/state/owner.json", 'an unmarked one of a VM that is known');
is(healthz()->{json}{route_count}, 2, 'and all routes');
is(guest(), '/mine', 'the VM is as it was');

# --- a second agent ---

my ($first) = zone()->{agent_pid};
my $pid = spawn("$dir/logs/second.log", "$Test::Hatch::build/hatch-agent",
                '--connect', 'qemu:///system', '--zone', "$dir/run/zone2",
                '--socket', "$dir/run/agent2.sock",
                '--wake-socket', "$dir/run/wake2.sock",
                '--state-dir', "$dir/state", '--image-dir', "$dir/images");
is(reap($pid) >> 8, 1, 'a second agent with another zone does not start');
like(slurp("$dir/logs/second.log"),
     qr/"state_dir": "\Q$dir\E\/state" is in use by another agent, pid $first;/,
     'and says who has the directory');
ok(!-e "$dir/run/zone2" && !-e "$dir/run/agent2.sock", 'it has made nothing');
is(api('GET', "/vms/$id")->{json}{state}, 'running', 'the first goes on');

# --- a full disk ---

my $full = vm(name => 'full', disk_mib => 16);
create_route($full->{id}, 'full');
my $lost = vm(name => 'lost', disk_mib => 16);
create_route($lost->{id}, 'lost');
api('POST', "/vms/$lost->{id}/stop", { force => JSON::PP::true });
wait_until('its name is noted', sub { -e "$dir/state/vms/$lost->{id}.json" });
virsh("undefine $lost->{id}");
wait_until('an orphan', sub {
    api('GET', "/orphans/$lost->{id}")->{status} == 200
});
my $more = guest_image();
my $template = api('POST', '/templates', { name => 'full' })->{json}{id};

# To the last byte; what is deleted must make room, so it is filled each time.
my $fills = 0;
sub fill {
    $fills++;
    system("cat /dev/zero > $dir/state/fill$fills 2>/dev/null");
    my ($free) = qx(stat -f -c %a '$dir/state') =~ /(\d+)/;
    is($free, 0, 'the disk is full');
}

fill();
is(api('POST', "/vms/$full->{id}/snapshot")->{status}, 507,
   'the state directory is full');
is(api('POST', '/templates', { name => 'none' })->{status}, 507,
   'a template has no room');

for (['a snapshot', "/snapshots/$snap", 200, "snapshots/$snap"],
     ['an orphan', "/orphans/$lost->{id}", 204, "*/$lost->{id}"],
     ['a template', "/templates/$template", 200, "templates/$template"],
     ['an image', "/images/$more", 200, "images/$more"],
     ['a VM', "/vms/$full->{id}", 200, "*/$full->{id}"])
{
    my ($what, $path, $status, $files) = @$_;
    my $r = api('DELETE', $path);
    is($r->{status}, $status, "$what can be deleted") or diag $r->{body};
    is(api('GET', $path)->{status}, 404, 'and is gone');
    is(join(' ', glob("$dir/state/$files*")), '', 'with its files');
    my ($free) = qx(stat -f -c %a '$dir/state') =~ /(\d+)/;
    cmp_ok($free, '>', 0, 'which makes room');
    fill();
}
is(page($_)->{status}, 404, 'with the route') for qw(full lost);
unlike(virsh('list --all --name'), qr/$full->{id}/, 'and domain');
unlink glob "$dir/state/fill*";

# and what a user deletes is gone
is(api('DELETE', "/vms/$id")->{status}, 200, 'DELETE');
is(files(), '', 'deletes the files');
is(api('GET', '/routes')->{body}, '[]', 'the routes');
unlike(virsh("net-dumpxml --inactive hatch"), qr/\Q$vm->{guest_mac}/,
       'and the reservation');
is_deeply([grep !/\.json$|\/images\//, glob "$dir/state/*/*"], [],
          'no file is left');

stop_agent();
stop_nginx();
system('umount', "$dir/state");
# of the agents that were not to start
allow_log(qr/error: "state_dir": .*(?:has the VMs of|is in use by another)/);

done();
