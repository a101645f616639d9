#!/usr/bin/perl

# The examples of the page "Health Check Endpoint", to the letter: whoever copies
# them, with hatch:latest on his machine, has a healthy container that another
# machine can ask.  The compose file with podman-compose, and with docker-compose
# on podman's socket; the pod with podman kube play.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Container;
use Test::More;

my $compose = <<'EOF';
services:
  hatch-api:
    image: hatch:latest
    ports:
      - "8080:8080"
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost:8080/healthz"]
      interval: 30s
      timeout: 10s
      retries: 3
      start_period: 40s
EOF

my $pod = <<'EOF';
apiVersion: v1
kind: Pod
metadata:
  name: hatch-api
spec:
  containers:
  - name: hatch
    image: hatch:latest
    ports:
    - containerPort: 8080
    livenessProbe:
      httpGet:
        path: /healthz
        port: 8080
      initialDelaySeconds: 10
      periodSeconds: 30
    readinessProbe:
      httpGet:
        path: /healthz
        port: 8080
      initialDelaySeconds: 5
      periodSeconds: 10
EOF

# The page's own answer, with other figures.
sub healthy {
    my ($who, $get) = @_;
    my $r = wait_until("$who: 200", sub {
        my $r = $get->();
        return $r->{status} == 200 && $r;
    }) or return;
    is_deeply(json($r->{body}),
              { status => 'ok', vm_count => 0, route_count => 0 },
              "$who: healthy");
}

mkdir "$dir/page";
write_file("$dir/page/compose.yaml", $compose);
write_file("$dir/page/pod.yaml", $pod);
chdir "$dir/page";

# The health check as the engine does it: systemd's timers would.
sub engine_says_healthy {
    my ($who, $name) = @_;
    qx(podman healthcheck run $name 2>&1);
    is($?, 0, "$who: the health check passes");
    is(podman("inspect -f '{{.State.Healthcheck.Status}}' $name"), 'healthy',
       "$who: the engine says healthy");
}

sub compose_with {
    my ($who, $command) = @_;
    my $out = qx($command up -d 2>&1);
    is($?, 0, "$who up") or diag $out;
    my $name = podman('ps --format "{{.Names}}"');
    like($name, qr/^page.hatch-api.1$/, "$who: one container");

    healthy("$who, from outside", sub { outside_get('/healthz') });
    healthy("$who, from this machine",
            sub { curl('http://localhost:8080/healthz') });
    engine_says_healthy($who, $name);
    like(container_log($name),
         qr/^hatch-start: there is no libvirt: VMs are only played/m,
         "$who: it says that VMs are only played");

    $out = qx($command down -t 9 2>&1);
    is($?, 0, "$who down") or diag $out;
    is(podman('ps -aq'), '', "$who: nothing is left");
}

compose_with('podman-compose', 'podman-compose');

my $socket = "$dir/podman/podman.sock";
my $service = spawn("$dir/logs/service.log", 'podman', 'system', 'service',
                    '--time', 0, "unix://$socket");
wait_until('podman listens', sub { -S $socket });
{
    local $ENV{DOCKER_HOST} = "unix://$socket";
    compose_with('docker-compose', 'docker-compose');
}
kill_pid('TERM', $service);
reap($service);

# --- Kubernetes ---

my $out = qx(podman kube play pod.yaml 2>&1);
is($?, 0, 'kube play') or diag $out;
my $name = 'hatch-api-hatch';

# a kubelet asks the pod's own address
my $ip = podman("inspect -f '{{range .NetworkSettings.Networks}}"
                . "{{.IPAddress}}{{end}}' \$(podman ps -q --filter "
                . 'name=infra)');
healthy('the pod, at its address', sub {
    curl("-A kube-probe/1.29 http://$ip:8080/healthz");
});
engine_says_healthy('the pod', $name);
is(curl("http://$ip:8080/readyz")->{status}, 200, 'and ready');

$out = qx(podman kube down pod.yaml 2>&1);
is($?, 0, 'kube down') or diag $out;
is(podman('ps -aq'), '', 'nothing is left');

chdir '/';
all_done();
