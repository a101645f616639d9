#!/usr/bin/perl

# HTTP/2 clients: the route API with bodies and parallel streams, the shaped
# errors, and a proxied request; WebSocket upgrades pass to the guest.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent(env => { HATCH_BRIDGE_CIDR => '127.55.0.1/24' });
start_nginx(http => <<"EOF");
    server {
        listen 127.0.0.1:8443 http2;
        location = /healthz { hatch_healthz; }
        location / { hatch_api; }
    }
    server {
        listen 127.0.0.1:9443 http2;
        location / {
            hatch_route hatch.localhost;
            proxy_pass http://vms;
            proxy_http_version 1.1;
            proxy_set_header Host \$host;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection \$http_connection;
        }
        location /told {
            hatch_route hatch.localhost;
            proxy_pass http://vms;
            proxy_http_version 1.1;
            proxy_set_header Host \$hatch_host;
            proxy_set_header X-Port \$hatch_port;
            proxy_set_header Connection \$hatch_connection;
        }
    }
    server {
        listen 127.55.0.2:80;
        location / { return 200 "guest over \$server_protocol\\n"; }
        location /socket { return 101; }
        location /told {
            return 200 "[\$http_host][\$http_x_port][\$http_connection]";
        }
    }
EOF

my $vm = create_vm({ guest_ip => '127.55.0.2' })->{id};
my $curl = 'curl -s --max-time 20 --http2-prior-knowledge';
my $api = 'http://127.0.0.1:8443';

is(qx($curl $api/healthz), '{"status":"ok","vm_count":1,"route_count":0}',
   '/healthz');
is(qx($curl -o /dev/null -w '%{http_version} %{http_code}' $api/healthz),
   '2 200', 'over HTTP/2');

my $r = json(qx($curl -d '{"target_port":80,"subdomain":"demo"}' \\
                $api/vms/$vm/routes));
is($r->{subdomain}, 'demo', 'POST with a body');
is(json(qx($curl -X PATCH -d '{"auto_wake":false}' $api/routes/$r->{id}))
   ->{auto_wake}, JSON::PP::false, 'PATCH');

# 100 streams at once on one connection
write_file("$dir/route.json", '{"target_port":80}');
my $load = qx(h2load -n 100 -c 1 -m 100 -d $dir/route.json $api/vms/$vm/routes);
like($load, qr/status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx/,
     '100 streams at once: 100 times 201') or diag $load;
is(healthz()->{json}{route_count}, 101, 'all of them counted');
is(scalar @{ json(qx($curl '$api/routes?limit=1000')) }, 101, 'and listed');

is(json(qx($curl -d 'x' $api/vms/$vm/routes))->{code}, 'invalid_json',
   'errors are JSON');
is(qx($curl -o /dev/null -w '%{http_code}' -X PUT $api/routes), '405',
   'a wrong method');

# clients that leave while their write waits
qx(curl -s --max-time 0.001 --http2-prior-knowledge -d '{"target_port":80}' \\
   $api/vms/$vm/routes) for 1 .. 50;
is(json(qx($curl $api/healthz))->{status}, 'ok',
   'clients that leave do no harm');

# An answer that comes before the body is lost by curl, most times.
for (['POST', '/vms/vm_aaaaaaaaaaaaaaaa/routes', 'vm_not_found'],
     ['PATCH', '/routes/rt_aaaaaaaaaaaaaaaa', 'route_not_found'],
     ['POST', '/routes', 'method_not_allowed'],
     ['POST', '/nothing', 'not_found'],
     ['POST', "/vms/$vm/routes?x=1", 'invalid_argument'],
     ['POST', "/vms/$vm/routes", 'precondition_failed', 'If-Match: "x"'],
     ['POST', "/vms/$vm/routes", 'origin_forbidden', 'Origin: http://evil'])
{
    my ($method, $path, $code, $header) = @$_;
    my $ask = "$curl -X $method -d '{\"target_port\":80}' '$api$path'"
            . ($header ? " -H '$header'" : '');
    is(join(' ', map { qx($ask) =~ /"code":"(\w+)"/ ? $1 : 'lost' } 1 .. 5),
       join(' ', ($code) x 5), "refused, and never lost: $code");
}

my $host = '-H "Host: demo.hatch.localhost"';
is(qx($curl $host http://127.0.0.1:9443/), "guest over HTTP/1.1\n",
   'a proxied request');
is(json(qx($curl http://127.0.0.1:9443/))->{code}, 'unknown_host',
   'and a refused one');

# :authority is the host; Upgrade means nothing
is(qx($curl -H 'Host: Demo.hatch.localhost:9443' http://127.0.0.1:9443/told),
   '[demo.hatch.localhost:9443][9443][]', 'the guest hears of the port');
is(qx($curl $host http://127.0.0.1:9443/told),
   '[demo.hatch.localhost][80][]', 'or of none');
is(qx(nghttp -H ':authority: demo.hatch.localhost' -H 'upgrade: websocket' \\
      http://127.0.0.1:9443/told),
   '[demo.hatch.localhost][80][]', 'and is not asked to upgrade');

is(json(qx($curl -X DELETE $api/routes/$r->{id}))->{status}, 'deleted',
   'DELETE');

done();
