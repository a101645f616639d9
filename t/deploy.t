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

my $pods = from_yaml("$top/deploy/kubernetes/pod.yaml");
is(scalar @$pods, 1, 'one document');
my $pod = $pods->[0];
my $json = JSON::PP->new->canonical->encode($pod);

SKIP: {
skip 'npm could not fetch the schema of Kubernetes', 4
    if !-d "$top/build/npm/node_modules/kubernetes-models";

is(validate($json), 'valid', 'the pod is valid');

# and the validator is one
isnt(validate($json =~ s/"periodSeconds"/"periodSecs"/r), 'valid',
     'an unknown field is not');
isnt(validate($json =~ s/"containerPort":8080/"containerPort":"http"/r),
     'valid', 'nor a wrong type');
isnt(validate($json =~ s/"name":"hatch",//r), 'valid',
     'nor a container without a name');
}

my ($nginx) = grep $_->{name} eq 'hatch', @{ $pod->{spec}{containers} };
is_deeply($nginx->{livenessProbe},
          { httpGet => { path => '/healthz', port => 8080 },
            initialDelaySeconds => 10, periodSeconds => 30 },
          'alive by /healthz, as documented');
is($nginx->{readinessProbe}{httpGet}{path}, '/readyz', 'ready by /readyz');

# --- Docker Compose ---

my $out = qx(docker-compose -f '$top/deploy/compose/compose.yaml' \\
             config -q 2>&1);
is($? . $out, '0', 'docker-compose config');
my $compose = from_yaml("$top/deploy/compose/compose.yaml")->[0];
is_deeply($compose->{services}{'hatch-api'}{healthcheck},
          { test => ['CMD', 'curl', '-f', 'http://localhost:8080/healthz'],
            interval => '30s', timeout => '10s', retries => 3,
            start_period => '40s' }, 'the health check, as documented');

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
