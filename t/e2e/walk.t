#!/usr/bin/perl

# A walk through the API with curl, every operation of the contract once, on a
# real guest: what the original Hatch's users know, and better where that had
# a gap.  Each answer is checked against the contract, too.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

mkdir "$dir/images";
system('cp', "$Test::Hatch::build/image/vmlinuz",
       "$Test::Hatch::build/image/initrd", "$dir/images") == 0 or die;
system('qemu-img', 'create', '-q', '-f', 'qcow2', "$dir/images/base.qcow2",
       '8M') == 0 or die;
start_agent(connect => 'qemu:///system',
            env => { HATCH_LOG_LEVEL => 'info', HATCH_MAX_VMS => 2,
                     HATCH_STOP_TIMEOUT => 1 });
start_nginx();

my %done;

# curl METHOD PATH [JSON]: status and decoded body.
sub curl {
    my ($method, $path, $json) = @_;
    my @cmd = ('curl', '-sS', '-X', $method, '-D', "$dir/head", '-o',
               "$dir/out", '-w', '%{http_code}');
    push @cmd, '-d', $json if defined $json;
    open my $fh, '-|', @cmd, "http://127.0.0.1:8080$path" or die;
    my $status = <$fh>;
    close $fh or die "curl: $?";

    my %headers = map { /^([^:\s]+):\s*(.*?)\r?$/ ? (lc $1 => $2) : () }
                  split /\n/, slurp("$dir/head");
    my $body = slurp("$dir/out");
    note_answer($method, $path, $json,
                { status => $status, headers => \%headers, body => $body });

    (my $name = $path) =~ s/\?.*//;
    $name =~ s{/(?:vm|rt|snap|img|tpl)_\w+}{/{id}};
    $done{"$method $name"} = 1 if $status < 300;
    return ($status, eval { json($body) } // {}, \%headers);
}

my ($s, $j, $h);

# GET /healthz: no key, exactly three fields
($s, $j) = curl('GET', '/healthz');
is($s, 200, 'GET /healthz');
is_deeply($j, { status => 'ok', vm_count => 0, route_count => 0 }, 'as known');

# what is new beside it
for my $path ('/readyz', '/metrics') {
    ($s, $j) = curl('GET', $path);
    is($s, 200, "GET $path");
}

# images and templates: hidden there, here for everybody
($s, $j) = curl('POST', '/images', '{"kernel_path":"vmlinuz",' .
    '"initrd_path":"initrd","rootfs_path":"base.qcow2",' .
    '"boot_args":"console=ttyS0 quiet"}');
is($s, 201, 'POST /images');
my $image = $j->{id};
is((curl('GET', '/images'))[0], 200, 'GET /images');
is((curl('GET', "/images/$image"))[1]{format}, 'qcow2', 'GET /images/{id}');

($s, $j) = curl('POST', '/templates', qq({"name":"t","image_id":"$image",) .
                '"mem_mib":128,"user_data":"#cloud-config\n"}' =~ s/\n/\\n/r);
is($s, 201, 'POST /templates');
my $template = $j->{id};
is((curl('GET', '/templates'))[0], 200, 'GET /templates');
is((curl('GET', "/templates/$template"))[1]{name}, 't', 'GET one');
is((curl('PATCH', "/templates/$template", '{"vcpu_count":1}'))[1]{vcpu_count},
   1, 'PATCH one');

# POST /vms: synchronous, started
($s, $j, $h) = curl('POST', '/vms', qq({"template_id":"$template"}));
is($s, 201, 'POST /vms');
is($j->{state}, 'running', 'started');
my $vm = $j->{id};
is($h->{location}, "/vms/$vm", 'Location');
ok(exists $j->{$_}, "field $_") for qw(id image_id template_id state vcpu_count
    mem_mib guest_ip guest_mac enable_network created_at updated_at);
ok(!exists $j->{$_}, "no $_: it tells of the host, or a secret")
    for qw(socket_path tap_name user_data);
like((curl('POST', '/vms', '{"template_id":"tpl_x"}'))[1]{error},
     qr/not found/, 'a template that is not there: 400');
is((curl('POST', '/vms', '{"image_id":"img_x"}'))[0], 400,
   'an image that is not there: 400, not 500');
is((curl('POST', '/vms', '{"ram":1}'))[0], 400, 'an unknown field: 400');
is((curl('POST', '/vms', '{'))[0], 400, 'bad JSON: 400');
is((curl('POST', '/vms', '{"vcpu_count":64}'))[0], 400,
   'too many vCPUs: 400, not a silent clamp');
is((curl('POST', '/vms', '{"mem_mib":128}'))[0], 201, 'another one');
($s, $j) = curl('POST', '/vms', '{}');
is($s, 403, 'one too many: 403');
is($j->{error}, 'vm limit reached (2/2)', 'as known');

# GET, PATCH
($s, $j) = curl('GET', '/vms');
is($s, 200, 'GET /vms');
is($j->[1]{id}, $vm, 'newest first');
is((curl('DELETE', "/vms/$j->[0]{id}"))[0], 200, 'the other goes');
is((curl('GET', "/vms/$vm"))[0], 200, 'GET /vms/{id}');
is((curl('GET', '/vms/vm_aaaaaaaaaaaaaaaa'))[0], 404, 'none: 404');
is((curl('GET', '/vms/'))[1]{code}, 'not_found', 'an empty id: 404');
is((curl('PATCH', "/vms/$vm", '{"name":"walk","idle_timeout":null}'))[1]{name},
   'walk', 'PATCH /vms/{id}');

# routes
($s, $j) = curl('POST', "/vms/$vm/routes", '{"target_port":80}');
is($s, 201, 'POST /vms/{id}/routes');
like($j->{subdomain}, qr/^\w{12}$/, 'a random subdomain of 12');
ok($j->{auto_wake}, 'auto_wake by default');
my $route = $j->{id};
my $host = "$j->{subdomain}.hatch.localhost";
is((curl('POST', "/vms/$vm/routes", '{"target_port":0}'))[0], 400, 'no port');
is((curl('POST', "/vms/$vm/routes",
         '{"target_port":80,"subdomain":"A_"}'))[0], 400, 'not its pattern');
is((curl('POST', "/vms/$vm/routes",
         '{"target_port":80,"subdomain":"grafana"}'))[0], 400, 'reserved');
is((curl('POST', '/vms/vm_aaaaaaaaaaaaaaaa/routes',
         '{"target_port":80}'))[0], 404, 'of no VM: 404');
my ($label) = $host =~ /^(\w+)/;
is((curl('POST', "/vms/$vm/routes",
         qq({"target_port":80,"subdomain":"$label"})))[0], 409, 'taken: 409');
is(scalar @{ (curl('GET', "/vms/$vm/routes"))[1] }, 1, 'GET them');
is(scalar @{ (curl('GET', '/routes'))[1] }, 1, 'GET /routes: all, new');
is((curl('GET', "/routes/$route"))[1]{id}, $route, 'GET /routes/{id}: new');
is((curl('PATCH', "/routes/$route", '{"auto_wake":false}'))[0], 200,
   'PATCH: new');

# the guest
sub guest { return http('127.0.0.1:9090', 'GET', '/', undef, Host => $host) }
wait_until('the guest answers', sub { guest()->{status} == 200 }, 60);

# snapshot, asleep, restore
($s, $j) = curl('POST', "/vms/$vm/snapshot");
is($s, 201, 'POST /vms/{id}/snapshot');
ok(exists $j->{$_}, "field $_") for qw(id vm_id state_key memory_key disk_key
    vm_config size_bytes created_at);
my $snap = $j->{id};
is((curl('GET', "/vms/$vm"))[1]{state}, 'snapshotted', 'ends in snapshotted');
is(guest()->{status}, 503, 'auto_wake is off: 503');
is((curl('POST', "/vms/$vm/snapshot"))[0], 409, 'asleep: 409, not 500');
is((curl('GET', "/vms/$vm/snapshots"))[1][0]{id}, $snap, 'the list');
is((curl('GET', "/snapshots/$snap"))[1]{vm_id}, $vm, 'GET /snapshots/{id}');
is((curl('POST', "/vms/$vm/restore"))[1]{state}, 'running',
   'POST /vms/{id}/restore');
wait_until('the guest answers', sub { guest()->{status} == 200 }, 60);
is((curl('POST', "/vms/$vm/restore"))[0], 409, 'it runs: 409, not 500');

# metrics; a busy machine may not have sampled a guest that is so new
wait_until('it is sampled', sub {
    ($s, $j) = curl('GET', "/vms/$vm/metrics");
    $s != 200 || $j->{vcpu}{cpu_time_micros} > 0;
});
is($s, 200, 'GET /vms/{id}/metrics');
ok(exists $j->{$_}, "field $_") for qw(vm_id state vcpu_count mem_mib
    uptime_seconds net block vcpu raw);
cmp_ok($j->{net}{tx_packets}, '>', 0, 'the guest has sent packets');
cmp_ok($j->{vcpu}{cpu_time_micros}, '>', 0, 'and worked');

# pause, resume, stop, start
is((curl('POST', "/vms/$vm/pause"))[1]{state}, 'paused', 'pause: new');
is((curl('POST', "/vms/$vm/resume"))[1]{state}, 'running', 'resume: new');
is((curl('POST', "/vms/$vm/stop"))[1]{state}, 'stopped', 'stop');
is((curl('POST', "/vms/$vm/stop"))[0], 409, 'again: 409 with the state');
is((curl('POST', "/vms/$vm/start"))[1]{state}, 'running',
   'start: stopped is not terminal');
is((curl('POST', '/vms/vm_aaaaaaaaaaaaaaaa/stop'))[0], 404, 'of none: 404');

# methods
($s, $j, $h) = curl('PUT', '/vms');
is($s, 405, 'a wrong method: 405');
is($h->{allow}, 'GET, HEAD, POST', 'with Allow');
is((curl('GET', "/vms/$vm/start"))[0], 405, 'on an action, too');
is((curl('GET', '/teapot'))[0], 404, 'a path that is not there: 404');

# delete
is((curl('DELETE', "/images/$image"))[0], 409, 'an image in use: 409');
is((curl('DELETE', "/snapshots/$snap"))[1]{status}, 'deleted', 'snapshot');
is((curl('DELETE', "/routes/$route"))[1]{status}, 'deleted', 'route');
is((curl('DELETE', "/routes/$route"))[0], 404, 'again: 404');
is((curl('DELETE', "/vms/$vm"))[1]{status}, 'deleted', 'VM');
is((curl('GET', "/vms/$vm"))[0], 404, 'it is gone');

# what is left of one that libvirt has no more
my $lost = (curl('POST', '/vms', qq({"image_id":"$image"})))[1]{id};
virsh("destroy $lost");
virsh("undefine $lost");
wait_until('an orphan', sub { @{ (curl('GET', '/orphans'))[1] } });
is((curl('GET', "/orphans/$lost"))[1]{id}, $lost, 'by its id');
is((curl('DELETE', "/orphans/$lost"))[0], 204, 'deleted');
is((curl('DELETE', "/templates/$template"))[0], 200, 'template');
is((curl('DELETE', "/images/$image"))[0], 200, 'image');

my @missing = grep !$done{$_}, map s/ \w+$//r, split /\n/,
    qx($top/t/lib/check-answers --operations $top/contract/hatch_api.yaml);
is_deeply(\@missing, [], 'every operation of the contract was done');

allow_log(qr/connect\(\) failed/);
done();
