#!/usr/bin/perl

# Nothing is ever lost: random operations by the API, by virsh and by hand on
# the host's files, with agent and libvirtd killed; at the end each VM that
# nobody deleted has its disk with its data, its memory if it slept, its
# snapshots and its routes, and no file belongs to nobody.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::Hatch::Property;
use Test::More;

my $seed = $ENV{HATCH_RANDOM_SEED} // int rand 1 << 20;
my $steps = $ENV{HATCH_PROPERTY_STEPS} // 60;
diag("seed $seed, $steps steps");
srand $seed;
$Test::Hatch::Property::cuts_libvirtd = $steps > 60;

property_begin();
property_steps($steps);
property_end() if Test::More->builder->is_passing;

# nginx met agents that were dying, and guests that were
allow_log(qr/\[error\].*(?:prematurely closed|Connection refused|reset by)/,
          qr/\[error\].*(?:connect\(\) |timed out|No route)/,
          qr/the connection to libvirt is lost|cannot connect to libvirt/);
done();
