#!/usr/bin/perl

# The model of the sleep handshake holds, and each step of it matters: without
# one of them spin finds the request that is lost.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Test::More;

my $check = abs_path(dirname(__FILE__) . '/../docs/model/check');

my $out = qx($check 2>&1);
is($?, 0, 'the model holds') or diag($out);
like($out, qr/safety: \d+ states.*liveness: \d+ states/s, 'both ways');

my %broken = (
    NO_SECOND_LOOK     => qr/assertion violated \(sent==0\)/,
    STATE_BEFORE_STAMP => qr/assertion violated \(sent==0\)/,
    RUNNING_TOO_EARLY  => qr/assertion violated \(vm==/,
    ASK_ONCE           => qr/invalid end state/,
    USED_TOO_LATE      => qr/assertion violated  ?!\(?\(?valid/,
);
for my $step (sort keys %broken) {
    $out = qx($check -D$step 2>&1);
    isnt($?, 0, "$step: the model does not hold");
    like($out, $broken{$step}, 'for the right reason');
}

done_testing();
