#!/usr/bin/perl

# Either side starts first; the zone is replaced, removed, damaged while
# nginx runs.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

# nginx first
start_nginx();
my $r = healthz();
is($r->{status}, 503, 'without an agent: 503');
is($r->{json}{code}, 'zone_unavailable', 'zone_unavailable');
like($r->{json}{error}, qr/cannot open zone "\S+": No such file/, 'says why');
is($r->{headers}{'retry-after'}, 1, 'Retry-After');
is(http('127.0.0.1:8080', 'GET', '/routes')->{body}, '[]',
   'routes can be read');
is(api('GET', '/vms')->{json}{code}, 'agent_unavailable', 'VMs cannot');
allow_log(qr/agent\.sock failed/);

start_agent();
everywhere('nginx sees the zone', sub { healthz()->{status} == 200 });
is(healthz()->{body}, '{"status":"ok","vm_count":0,"route_count":0}',
   'then the agent: 200');

my $vm = create_vm();
ok(create_route($vm->{id}, 'demo'), 'a route');
is(healthz()->{body}, '{"status":"ok","vm_count":1,"route_count":1}', 'counts');

# agent first
stop_nginx();
start_nginx();
is(healthz()->{body}, '{"status":"ok","vm_count":1,"route_count":1}',
   'nginx second: right at once') for 1 .. 10;

# the activity file is nginx's
my @st = stat "$dir/run/zone.activity";
is((getpwuid $st[4])[0], 'www-data', 'zone.activity belongs to the workers');
is($st[2] & 07777, 0640, 'with mode 0640');
http('127.0.0.1:9090', 'GET', '/', undef, Host => 'demo.hatch.localhost',
     Connection => 'close') for 1;
allow_log(qr/while connecting to upstream/);
my ($seen) = @{ zone()->{vms} };
cmp_ok($seen->{last_request_age_ms}, '<', 60_000, 'a request leaves a stamp');
is($seen->{requests}, 1, 'and is counted');

# nginx -t beside a running one changes nothing
my $inode = $st[1];
is((nginx_t(slurp("$dir/nginx.conf")))[0], 0, 'nginx -t');
is((stat "$dir/run/zone.activity")[1], $inode, 'the activity file stays');
is(zone()->{vms}[0]{requests}, 1, 'with its content');

# a reload keeps it, too
my @workers = workers();
kill 'HUP', Test::Hatch::nginx_pid();
wait_until('reload', sub {
    my %now = map { $_ => 1 } workers();
    %now == 2 && !grep $now{$_}, @workers;
});
is(zone()->{vms}[0]{requests}, 1, 'so does a reload');

# the agent comes back with a smaller zone: another file
stop_agent();
start_agent(env => { HATCH_ZONE_VMS => 32 });
everywhere('nginx follows to the new file',
           sub { healthz()->{json}{vm_count} == 0 });
create_vm();
is(healthz()->{json}{vm_count}, 1, 'and sees what happens in it');

# and with a larger one than nginx was told of
stop_agent();
start_agent(env => { HATCH_ZONE_VMS => 20_000 });
create_vm() for 1 .. 2;
wait_until('nginx refuses it', sub { nginx_log() =~ /raise it/ });
like(nginx_log(), qr/zone "\S+" has 20000 slots, more than "vms=16384"/,
     'a larger zone is refused, and says what to do');
is(healthz()->{body}, '{"status":"ok","vm_count":1,"route_count":0}',
   'the last good data stays');
write_file("$dir/nginx.conf", Test::Hatch::nginx_conf()
           =~ s{hatch_zone (\S+);}{hatch_zone $1 vms=20000;}r);
kill 'HUP', Test::Hatch::nginx_pid();
everywhere('raised: it is taken', sub { healthz()->{json}{vm_count} == 2 });
is(zone()->{slots}, 20_000, 'raised: it is taken');

# truncated under nginx' feet, with the agent stopped
stop_agent();
truncate "$dir/run/zone", 0 or die;
my @now = workers();
$r = healthz();
is($r->{status}, 503, 'a truncated zone: 503');
like($r->{json}{error}, qr/was truncated; restart|is empty; restart/,
     'says why');
is_deeply([workers()], \@now, 'no worker died of it');
start_agent(env => { HATCH_ZONE_VMS => 20_000 });
everywhere('an agent repairs it', sub { healthz()->{status} == 200 });
pass('an agent repairs it');

# overwritten with rubbish
stop_agent();
open my $fh, '+<', "$dir/run/zone" or die;
print $fh 'x' x 1_000_000;
close $fh;
everywhere('rubbish is noticed', sub { healthz()->{status} == 503 });
$r = healthz();
is($r->{status}, 503, 'an overwritten zone: 503');
is_deeply([workers()], \@now, 'no worker died of it');
reap(start_agent(env => { HATCH_ZONE_VMS => 20_000 }, wait => 0));
undef $Test::Hatch::agent;
like(agent_log(), qr/zone "\S+" is not a Hatch zone; remove the file or name/,
     'an agent does not overwrite what is none');
allow_log(qr/error: zone "\S+" is not a Hatch zone/);
unlink "$dir/run/zone" or die;
start_agent(env => { HATCH_ZONE_VMS => 20_000 });
everywhere('an agent repairs it', sub { healthz()->{status} == 200 });
pass('an agent makes a new one');

# rubbish in the slots only: readable, harmless
stop_agent();
open $fh, '+<', "$dir/run/zone" or die;
seek $fh, 4096, 0;
print $fh join '', map chr rand 256, 1 .. 2_000_000;
close $fh;
for my $n (1 .. 20) {
    http('127.0.0.1:8080', 'GET', "/vms/vm_aaaaaaaaaaaaaaaa/routes");
    http('127.0.0.1:8080', 'GET', "/vms/$vm->{id}/routes");
}
is_deeply([workers()], \@now, 'random bytes in the slots kill no worker');
start_agent(env => { HATCH_ZONE_VMS => 20_000 });
everywhere('an agent repairs it', sub {
    healthz()->{body} eq '{"status":"ok","vm_count":0,"route_count":0}'
});
is(healthz()->{json}{vm_count}, 0, 'an agent repairs that, too');

done();
