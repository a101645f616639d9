#!/usr/bin/perl

# nginx.conf.example is a configuration that nginx accepts, and has every
# directive of the module; deploy/agent.json is one that the agent accepts,
# and has every key with its default.  README's synopsis is accepted, too.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my $module = "$Test::Hatch::build/ngx_http_hatch_module.so";

sub accepted {
    my ($conf) = @_;
    $conf =~ s{modules/ngx_http_hatch_module\.so}{$module};
    $conf =~ s{/run/hatch/}{$dir/run/}g;
    $conf =~ s{/var/lib/hatch/}{$dir/}g;
    $conf =~ s{/var/log/nginx/}{$dir/logs/}g;
    return nginx_t($conf);
}

my $example = slurp("$top/nginx.conf.example");
my ($rc, $out) = accepted($example);
is($rc, 0, 'nginx.conf.example is accepted') or diag $out;

my @directives = slurp("$top/ngx_hatch_module/http/ngx_http_hatch_module.c")
                 =~ /\{ ngx_string\("(hatch\w*)"\)/g;
cmp_ok(scalar @directives, '>=', 6, 'the module has directives');
like($example, qr/^\s*$_[ ;]/m, "the example has $_") for @directives;
like(slurp("$top/docs/directives.md"), qr/^## `$_`/m, "documented: $_")
    for @directives;

my ($synopsis) = slurp("$top/README.md") =~ /```nginx\n(.*?)```/s;
ok($synopsis, 'README has a synopsis');
($rc, $out) = accepted("load_module modules/ngx_http_hatch_module.so;\n"
                        . "user www-data;\nevents { }\n$synopsis");
is($rc, 0, 'README\'s synopsis is accepted') or diag $out;

# the agent's configuration
my $config = slurp("$top/agent/config.c");
my %keys = $config =~ /^    (?:STRING|INTEGER|DURATION)\((\w+),.*?((?:"[^"]*"\s*)+|HATCH_\w+)\)/msg;
my $json = json(slurp("$top/deploy/agent.json"));
is_deeply([sort keys %$json], [sort keys %keys], 'deploy/agent.json: all keys');

for my $key (sort keys %keys) {
    my $default = $keys{$key};
    next if $default !~ /^"/;
    $default = join '', $default =~ /"([^"]*)"/g;
    is($json->{$key}, $default, "deploy/agent.json: default of $key");
    like(slurp("$top/docs/agent.md"), qr/^\| `$key` /m, "documented: $key");
}

$out = qx($Test::Hatch::build/hatch-agent --config $top/deploy/agent.json \\
          --connect test:///default --check 2>&1);
is($? >> 8, 0, 'deploy/agent.json is accepted') or diag $out;

done();
