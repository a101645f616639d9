#!/usr/bin/perl

# A real Prometheus: the scrape_configs of /healthz's documentation as they
# are printed there, then /metrics; promtool's lint of both; every query of
# the dashboard, and every alert rule, against what it has scraped.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

start_agent(connect => 'qemu:///system',
            env => { HATCH_STATS_INTERVAL => '0.5s',
                     HATCH_LOG_LEVEL => 'info' });
start_nginx();

my @vms = map create_vm({ name => "prom-$_" })->{id}, 1 .. 2;
create_route($vms[0], 'prom');
create_route($vms[0], 'prom2');
create_route($vms[1], 'prom3');
is(page('prom')->{status}, 200, 'a guest answers');

# --- the formats, by those who read them ---

my %family = map { $_ => 1 } http('127.0.0.1:8080', 'GET', '/metrics')->{body}
                             =~ /^# TYPE (\S+)/mg;
my %documented = map { $_ => 1 }
    map /`(hatch_\w+)(?:\{[\w,]+\})?`/g,
    grep /^\| `hatch_/ && !/hatch_(?:healthz|readyz|metrics)`/,
    split /\n/, slurp("$top/docs/metrics.md");
is(join(' ', grep !$documented{$_}, sort keys %family), '',
   'every metric is in docs/metrics.md');
is(join(' ', grep !$family{$_}, sort keys %documented), '',
   'and no other');

for my $path ('/healthz', '/metrics') {
    my $r = http('127.0.0.1:8080', 'GET', $path, undef,
                 Accept => 'text/plain;version=0.0.4');
    write_file("$dir/text", $r->{body});
    is(qx(promtool check metrics < '$dir/text' 2>&1), '',
       "promtool check metrics is silent on $path");

    for (['text/plain', 'prometheus_client.parser'],
         ['application/openmetrics-text',
          'prometheus_client.openmetrics.parser'])
    {
        my ($type, $parser) = @$_;
        $r = http('127.0.0.1:8080', 'GET', $path, undef, Accept => $type);
        like($r->{headers}{'content-type'}, qr/^\Q$type\E;/, "$path: $type");
        write_file("$dir/text", $r->{body});
        my $out = qx(/usr/bin/python3 -c '
import sys
from $parser import text_string_to_metric_families as parse
n = sum(len(f.samples) for f in parse(sys.stdin.read()))
print("samples" if n >= 3 else "none")
' < '$dir/text' 2>&1);
        is($out, "samples\n", "the client library reads it");
    }
}

# --- Prometheus ---

# The block of /healthz's documentation, but for the time between scrapes.
my $block = <<'END';
scrape_configs:
  - job_name: 'hatch'
    metrics_path: '/healthz'
    static_configs:
      - targets: ['localhost:8080']
END

my $prometheus;

sub start_prometheus {
    my ($config) = @_;
    write_file("$dir/prometheus.yml", $config);
    $prometheus = spawn("$dir/logs/prometheus.log", 'prometheus',
                        "--config.file=$dir/prometheus.yml",
                        "--storage.tsdb.path=$dir/tsdb",
                        '--web.listen-address=127.0.0.1:9091');
    return wait_until('Prometheus is ready', sub {
        (http('127.0.0.1:9091', 'GET', '/-/ready')
            // { status => 0 })->{status} == 200;
    }, 60) || diag(slurp("$dir/logs/prometheus.log"));
}

sub stop_prometheus { kill_pid('TERM', $prometheus); reap($prometheus) }

sub escape {
    my ($s) = @_;
    $s =~ s/([^\w.-])/sprintf '%%%02X', ord $1/ge;
    return $s;
}

sub api_get {
    my ($path) = @_;
    my $r = http('127.0.0.1:9091', 'GET', "/api/v1/$path");
    return json($r->{body});
}

sub query {
    my ($query) = @_;
    my $j = api_get('query?query=' . escape($query));
    return $j->{status} eq 'success' ? $j->{data}{result} : undef;
}

sub value {
    my $result = query(@_);
    return $result && @$result ? $result->[0]{value}[1] : undef;
}

sub target_is_up {
    my ($job) = @_;
    return wait_until("target of $job is up", sub {
        my ($t) = grep $_->{labels}{job} eq $job,
                  @{ api_get('targets')->{data}{activeTargets} };
        return $t && $t->{health} eq 'up' && $t->{lastError} eq '';
    }, 30) || diag(http('127.0.0.1:9091', 'GET', '/api/v1/targets')->{body});
}

start_prometheus("global:\n  scrape_interval: 1s\n$block");
target_is_up('hatch');
wait_until('the counts are there', sub { defined value('hatch_vms') });
is(value('up{job="hatch"}'), 1, 'up');
is(value('hatch_vms'), 2, 'VMs');
is(value('hatch_routes'), 3, 'routes');
is(value('hatch_healthy'), 1, 'and ok');
stop_prometheus();

# with what we ship: both, and the rules
my $shipped = slurp("$top/deploy/prometheus/prometheus.yml");
like(qx(promtool check config '$top/deploy/prometheus/prometheus.yml' 2>&1),
     qr/SUCCESS/, 'promtool check config');
$shipped =~ s/- hatch\.rules\.yml/- $top\/deploy\/prometheus\/hatch.rules.yml/
    or die;
start_prometheus("global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n"
                 . $shipped);
target_is_up('hatch');
wait_until('the metrics are there', sub { defined value('hatch_vms') });
is(value('hatch_vms{job="hatch"}'), 2, 'VMs');
is(value('hatch_routes{job="hatch"}'), 3, 'routes');
is(value('hatch_vms_by_state{state="running"}'), 2, 'by state');

# something to see: VMs that sleep, wake, and work
for my $round (1 .. 2) {
    is(api('POST', "/vms/$vms[0]/pause")->{status}, 200, 'paused');
    is(page('prom')->{status}, 200, 'woken');
}
is(value('count(hatch_vm_cpu_seconds_total > 0)'), 2, 'processor time');

my ($metadata) = api_get('metadata')->{data};
is($metadata->{hatch_wakes_total}[0]{type}
   // $metadata->{hatch_wakes}[0]{type}, 'counter', 'types are known');
wait_until('the wakes are seen', sub {
    value('sum(hatch_wakes_total)') == 2;
});

# --- the dashboard ---

sub expressions {
    my ($node, $found) = @_;
    if (ref $node eq 'HASH') {
        push @$found, $node->{expr} if defined $node->{expr};
        expressions($_, $found) for values %$node;
    } elsif (ref $node eq 'ARRAY') {
        expressions($_, $found) for @$node;
    }
    return $found;
}

my $dashboard = json(slurp("$top/deploy/grafana/hatch.json"));
my %have = (job => 'hatch', instance => '.*', vm => '.*');

for my $variable (@{ $dashboard->{templating}{list} }) {
    next if $variable->{type} ne 'query';
    my ($selector, $label) =
        $variable->{query}{query} =~ /^label_values\((.*), (\w+)\)$/ or die;
    $selector =~ s/\$(\w+)/$have{$1}/g;
    my @values = grep defined, map $_->{metric}{$label},
                 @{ query($selector) // [] };
    cmp_ok(scalar @values, '>', 0, "variable $variable->{name} has values");
}

my $queries = expressions($dashboard, []);
cmp_ok(scalar @$queries, '>', 20, 'the dashboard has queries');
my %seen;
for my $query (grep !$seen{$_}++, @$queries) {
    my $real = $query;
    $real =~ s/\$__rate_interval/30s/g;
    $real =~ s/\$(\w+)/$have{$1} \/\/ die "\$$1?"/ge;
    ok(wait_until($query, sub {
        my $result = query($real);
        return $result && @$result;
    }), $query);
}

# --- the rules: loaded, evaluated, and one of them fires ---

my @rules = map @{ $_->{rules} }, @{ api_get('rules')->{data}{groups} };
cmp_ok(scalar @rules, '>=', 11, 'the rules are loaded');
wait_until('all are evaluated', sub {
    @rules = map @{ $_->{rules} }, @{ api_get('rules')->{data}{groups} };
    return !grep $_->{health} ne 'ok', @rules;
}) or diag(join "\n", map $_->{lastError} // (), @rules);

like(qx(promtool check rules '$top/deploy/prometheus/hatch.rules.yml' 2>&1),
     qr/SUCCESS: \d+ rules found/, 'promtool check rules');
my $out = qx(promtool test rules \\
             '$top/deploy/prometheus/hatch.rules.test.yml' 2>&1);
is($?, 0, 'promtool test rules') or diag($out);

my %tested;
my $tests = slurp("$top/deploy/prometheus/hatch.rules.test.yml");
$tested{$1}++ while $tests =~ /alertname: (\w+)\s+exp_alerts:/g;
is(join(' ', grep !$tested{$_}, map $_->{name}, @rules), '',
   'each alert fires in a test');

stop_agent('KILL');
wait_until('HatchAgentDown is pending', sub {
    grep $_->{labels}{alertname} eq 'HatchAgentDown',
         @{ api_get('alerts')->{data}{alerts} };
}, 30);
is(value('up{job="hatch"}'), 1, 'and the target is still up');
is(value('hatch_vms'), 2, 'with its counts');

allow_log(qr{prometheus.log}, qr/connect\(\) to unix:.*failed/);
done();
