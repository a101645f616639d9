#!/usr/bin/perl

# deploy/: the pod against Kubernetes' schema, the compose file by Docker
# Compose.  What is for Prometheus and Grafana is tested with a real
# Prometheus, in t/e2e/prometheus.t.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;

my $top = abs_path(dirname(__FILE__) . '/..');
my $dir = tempdir(CLEANUP => 1);

sub slurp {
    my ($file) = @_;
    open my $fh, '<', $file or die "$file: $!";
    local $/;
    return scalar <$fh>;
}

sub write_file {
    my ($file, $text) = @_;
    open my $fh, '>', $file or die "$file: $!";
    print $fh $text;
    close $fh or die "$file: $!";
}

sub from_yaml {
    my ($file) = @_;
    my $json = qx(/usr/bin/python3 -c '
import json, sys, yaml
print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))
' '$file');
    return JSON::PP->new->decode($json);
}

# --- Kubernetes ---

sub validate {
    my ($json) = @_;
    open my $fh, '>', "$dir/pod.json" or die;
    print $fh $json;
    close $fh;
    local $ENV{NODE_PATH} = "$top/build/npm/node_modules";
    my $out = qx(node '$top/t/lib/validate-pod.js' < '$dir/pod.json' 2>&1);
    chomp $out;
    return $out;
}

my ($map, $pod) = @{ from_yaml("$top/deploy/kubernetes/pod.yaml") };
my $json = JSON::PP->new->canonical->encode($pod);

# with the lines that are there for a file of keys
(my $keys = slurp("$top/deploy/kubernetes/pod.yaml")) =~
    s/^( +)# (env:|  - .*HATCH_API.*|- .*keys.*|  secret.*|    secretName.*)$/$1$2/mg;
write_file("$dir/keys.yaml", $keys);
$keys = from_yaml("$dir/keys.yaml")->[1];

SKIP: {
skip 'npm could not fetch the schema of Kubernetes', 5
    if !-d "$top/build/npm/node_modules/kubernetes-models";

is(validate($json), 'valid', 'the pod is valid');
is(validate(JSON::PP->new->encode($keys)), 'valid', 'with keys, too');

# and the validator is one
isnt(validate($json =~ s/"periodSeconds"/"periodSecs"/r), 'valid',
     'an unknown field is not');
isnt(validate($json =~ s/"containerPort":8080/"containerPort":"http"/r),
     'valid', 'nor a wrong type');
isnt(validate($json =~ s/"name":"hatch",//r), 'valid',
     'nor a container without a name');
}

my ($nginx, $agent) = @{ $pod->{spec}{containers} };
is_deeply($nginx->{livenessProbe},
          { httpGet => { path => '/healthz', port => 8080 },
            initialDelaySeconds => 10, periodSeconds => 30 },
          'alive by /healthz, as documented');
is($nginx->{readinessProbe}{httpGet}{path}, '/readyz', 'ready by /readyz');
is($_->{imagePullPolicy}, 'IfNotPresent', "the image of $_->{name} is local")
    for $nginx, $agent;
ok($pod->{spec}{shareProcessNamespace}, 'LMDB tells the two apart');
is($map->{kind}, 'ConfigMap', 'what the pod names is there, too');
is_deeply([map $_->{configMap} ? $_->{configMap}{name} : (),
               @{ $pod->{spec}{volumes} }], [$map->{metadata}{name}],
          'by its name');
is_deeply([grep $_->{mountPath} eq '/run/libvirt', @{ $nginx->{volumeMounts} }],
          [], 'nginx does not have libvirt');

my ($env) = @{ (grep $_->{name} eq 'hatch', @{ $keys->{spec}{containers} })[0]
               {env} };
my ($mount) = grep $_->{name} eq 'keys',
              @{ $keys->{spec}{containers}[0]{volumeMounts} };
is($env->{value}, "$mount->{mountPath}/api_keys", 'the keys are where they are');
is($keys->{spec}{volumes}[-1]{secret}{secretName}, 'hatch-api-keys',
   'and what they are made as');

# --- Docker Compose ---

my $out = qx(docker-compose -f '$top/deploy/compose/compose.yaml' \\
             config -q 2>&1);
is($? . $out, '0', 'docker-compose config');
my $compose = from_yaml("$top/deploy/compose/compose.yaml")->[0];
is_deeply($compose->{services}{'hatch-api'}{healthcheck},
          { test => ['CMD', 'curl', '-f', 'http://localhost:8080/healthz'],
            interval => '30s', timeout => '10s', retries => 3,
            start_period => '40s' }, 'the health check, as documented');
is($compose->{services}{'hatch-agent'}{pid}, 'service:hatch-api',
   'LMDB tells the two apart');

# what may be taken in, too
(my $all = slurp("$top/deploy/compose/compose.yaml")) =~
    s{^( +)# - \./}{$1- ./}mg;
write_file("$dir/all.yaml", $all);
$out = qx(docker-compose -f '$dir/all.yaml' config 2>&1);
is($?, 0, 'with the lines that are behind "#"') or diag $out;
like($out, qr{:/etc/hatch/$_:ro}, "$_ is mounted")
    for qw(api_keys nginx.conf agent.json);

# --- Grafana ---

my $board = JSON::PP->new->decode(slurp("$top/deploy/grafana/hatch.json"));
my %ids;
$ids{$_->{id}}++ for @{ $board->{panels} };
is(join(' ', grep { $ids{$_} > 1 } keys %ids), '', 'panels have ids');
is(join(' ', map $_->{title}, grep { $_->{type} ne 'row'
             && ($_->{gridPos}{x} + $_->{gridPos}{w} > 24
                 || !@{ $_->{targets} }) } @{ $board->{panels} }), '',
   'a place, and a query');

done_testing();
