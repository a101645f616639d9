#!/usr/bin/perl

# HTTP/3 clients: health, the route API with bodies and errors, a proxied
# request and one that is held while its VM wakes.  Only with an nginx that
# speaks it and a curl beside it that does, too: NGINX=1.26.

use strict;
use warnings;

use Cwd 'realpath';
use Test::Hatch world => 'plain';
use Test::More;

# util/fetch-nginx has put it there
my $program = realpath($Test::Hatch::nginx // '') // '';
$program =~ s{/sbin/nginx$}{/bin/curl};

plan(skip_all => 'an nginx without HTTP/3')
    if qx($Test::Hatch::nginx -V 2>&1) !~ /http_v3_module/;
plan(skip_all => "no curl with HTTP/3 at \"$program\"")
    if $program !~ /curl$/ || qx($program -V 2>&1) !~ /HTTP3/;

system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
       . "-keyout $dir/key -out $dir/cert 2>$dir/openssl") == 0
    or die slurp("$dir/openssl");

start_agent(env => { HATCH_BRIDGE_CIDR => '127.55.0.1/24' });
start_nginx(http => <<"EOF") or die nginx_log();
    ssl_certificate $dir/cert;
    ssl_certificate_key $dir/key;
    server {
        listen 127.0.0.1:8443 quic reuseport;
        location = /healthz { hatch_healthz; }
        location = /readyz { hatch_readyz; }
        location / {
            hatch_api;
            proxy_pass http://unix:$dir/run/agent.sock:;
        }
    }
    server {
        listen 127.0.0.1:9443 quic reuseport;
        client_max_body_size 1m;
        location / {
            hatch_route hatch.localhost;
            proxy_pass http://vms;
            proxy_http_version 1.1;
            proxy_set_header Host \$hatch_host;
            proxy_set_header X-Port \$hatch_port;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection \$hatch_connection;
        }
    }
    server {
        listen 127.55.0.2:80;
        location / {
            add_header Keep-Alive timeout=5;
            return 200 "[\$http_host][\$http_x_port][\$http_connection]";
        }
        location /length {
            client_max_body_size 1m;
            proxy_pass http://127.55.0.2:81;
        }
    }
    server {
        listen 127.55.0.2:81;
        location / { return 200 "[\$content_length]"; }
    }
EOF

my $vm = create_vm({ guest_ip => '127.55.0.2' })->{id};
my $curl = "$program -sk --max-time 20 --http3-only";
my $api = 'https://127.0.0.1:8443';
my $web = 'https://127.0.0.1:9443';

# --- health ---

is(qx($curl $api/healthz), '{"status":"ok","vm_count":1,"route_count":0}',
   '/healthz');
is(qx($curl -o /dev/null -w '%{http_version} %{http_code}' $api/healthz),
   '3 200', 'over HTTP/3');
is(qx($curl -o /dev/null -w '%{http_code}' $api/readyz), '200', '/readyz');
is(qx($curl -I -o /dev/null -w '%{http_code}' $api/healthz), '200', 'HEAD');
is(qx($curl -X OPTIONS -o /dev/null -w '%{http_code}' $api/healthz), '204',
   'OPTIONS');

# --- the API ---

my $r = json(qx($curl -d '{"target_port":80,"subdomain":"demo"}' \\
                $api/vms/$vm/routes));
is($r->{subdomain}, 'demo', 'POST with a body');
is(json(qx($curl -X PATCH -d '{"auto_wake":true}' $api/routes/$r->{id}))
   ->{auto_wake}, JSON::PP::true, 'PATCH');
is(json(qx($curl $api/vms/$vm))->{id}, $vm, 'the VM API is passed on');
is(json(qx($curl -d x $api/vms/$vm/routes))->{code}, 'invalid_json',
   'errors are JSON');
is(json(qx($curl -d '{"target_port":80}' -H 'Origin: http://evil' \\
           $api/vms/$vm/routes))->{code}, 'origin_forbidden',
   'another origin');
is(json(qx($curl -d '{"target_port":80}' -H 'If-Match: "x"' \\
           $api/vms/$vm/routes))->{code}, 'precondition_failed',
   'a precondition');
is(json(qx($curl $api/nothing))->{code}, 'not_found', 'no such endpoint');

# --- routes ---

# :authority is the host
sub web {
    my ($host, $path, $more) = @_;
    return qx($curl @{[$more // '']} --connect-to ::127.0.0.1:9443 \\
              'https://$host$path');
}

is(web('demo.hatch.localhost:9443', '/'),
   '[demo.hatch.localhost:9443][9443][]', 'a proxied request');
is(web('Demo.hatch.localhost', '/'), '[demo.hatch.localhost][443][]',
   'with the port of its scheme');
is(web('demo.hatch.localhost', '/', '-H "Upgrade: websocket"'),
   '[demo.hatch.localhost][443][]', 'the guest is not asked to upgrade');
unlike(web('demo.hatch.localhost', '/', '-i'), qr/^(?:connection|keep-alive):/mi,
       'nor does the client hear of the connection to the guest');
is(json(web('none.hatch.localhost', '/'))->{code}, 'route_not_found',
   'no such route');
is(json(web('example.com', '/'))->{code}, 'unknown_host', 'another host');

write_file("$dir/upload", 'x' x 500_000);
is(web('demo.hatch.localhost', '/length', "--data-binary \@$dir/upload"),
   '[500000]', 'a body');
write_file("$dir/upload", 'x' x 1_500_000);
is(web('demo.hatch.localhost', '/length',
       "-o /dev/null -w '%{http_code}' --data-binary \@$dir/upload"),
   '413', 'one that is too large');

# --- held ---

for my $body (0, 500_000) {
    is(api('POST', "/vms/$vm/pause")->{status}, 200, 'the VM is paused');
    write_file("$dir/upload", 'x' x $body);
    like(web('demo.hatch.localhost', $body ? '/length' : '/',
             $body ? "-i --data-binary \@$dir/upload" : '-i'),
         qr/^server-timing: hatch-wake;desc="resume".*\[(?:demo\.|500000\])/ms,
         "held while it wakes, with a body of $body");
}

# a client that leaves meanwhile
is(api('POST', "/vms/$vm/pause")->{status}, 200, 'it is paused again');
qx($curl --max-time 0.05 --connect-to ::127.0.0.1:9443 \\
   https://demo.hatch.localhost/);
like(web('demo.hatch.localhost', '/'), qr/^\[demo/, 'clients that leave');

is(json(qx($curl -X DELETE $api/routes/$r->{id}))->{status}, 'deleted',
   'DELETE');

allow_log(qr/client intended to send too large body/);
done();
