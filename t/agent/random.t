#!/usr/bin/perl

# 300 random API calls by 6 clients on up to 20 VMs of the test driver, three
# times: answers, zone and files agree, and no call is a 5xx.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Random;
use Test::More;

my $seed = $ENV{HATCH_RANDOM_SEED} // int rand 1 << 20;
diag("seed $seed");

mkdir "$dir/images";
system('qemu-img', 'create', '-q', '-f', 'qcow2', "$dir/images/base.qcow2",
       '8M') == 0 or die;
start_agent(env => { HATCH_LOG_LEVEL => 'info' });
my $image = api('POST', '/images', { rootfs_path => 'base.qcow2' })->{json}{id};

for my $round (1 .. 3) {
    ok(random_calls(clients => 6, calls => 300, vms => 20, image => $image,
                    seed => $seed + $round), "round $round: no 5xx");
    agree();
}

my $r = api('DELETE', "/vms/$_->{id}") for @{ api('GET', '/vms')->{json} };
my $vms = agree();
is(keys %$vms, 0, 'all deleted');
is_deeply([grep !/\.(?:json|base)$/, glob "$dir/state/*/*"], [], 'no file is left');
is(api('DELETE', "/images/$image")->{status}, 200, 'and the image is free');

done();
