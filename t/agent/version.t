#!/usr/bin/perl

# The version stands in one place, the Makefile, and all say the same.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my ($version) = slurp("$top/Makefile") =~ /^VERSION *= *(\S+)$/m;
like($version, qr/^\d+\.\d+\.\d+/, "the Makefile says $version");

is(scalar qx('$Test::Hatch::build/hatch-agent' --version),
   "hatch-agent $version\n", 'hatch-agent --version');
like(scalar qx('$Test::Hatch::build/hatch-agent' --check --connect test:///default),
     qr/^version: \Q$version\E$/m, '--check');

start_agent();
start_nginx();
like(agent_log(), qr/info: hatch-agent \Q$version\E started/, 'the agent\'s start');
like(nginx_log(), qr/\[notice\] .*hatch: version \Q$version\E$/m, 'the module\'s');
ok((grep /^hatch_build_info\{version="\Q$version\E",/, keys %{ metrics() }),
   'and /metrics');

done();
