#!/usr/bin/perl

# hatch:latest with less than an engine gives by itself: a root that is only
# read, another user than root, few capabilities or none; and its size.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Container;
use Test::More;

cmp_ok(podman("image inspect -f '{{.Size}}' hatch:latest"), '<=', 360e6,
       'hatch:latest has at most 360 MB');

# it would be that of all containers, and VMs belong to a host by it
for my $image (qw(latest full)) {
    is(podman("run --rm hatch:$image sh -c 'cat /etc/machine-id "
              . "/var/lib/dbus/machine-id 2> /dev/null; :'"), '',
       "hatch:$image has no machine-id");
}

my $tmpfs = '--read-only --read-only-tmpfs=false '
          . '--mount type=tmpfs,destination=/run/hatch,chown=true '
          . '--mount type=tmpfs,destination=/var/lib/hatch,chown=true';
my $few = '--cap-drop ALL --cap-add CHOWN,DAC_OVERRIDE,FOWNER,SETGID,SETUID';

# what docs/containers.md says, less what is said below
sub by_the_book {
    return documented($_[0]) =~ s/ -p 8080:8080 hatch:latest$//r;
}

my @ways = (
    ['docs, read-only'          => by_the_book(qr/^--read-only/)],
    ['docs, www-data'           => by_the_book(qr/^--user www-data/)],
    ['root, read-only'          => $tmpfs],
    ['root, few capabilities'   => "$few --security-opt no-new-privileges "
                                   . $tmpfs],
    ['www-data, none'           => '--cap-drop ALL --user www-data '
                                   . "--security-opt no-new-privileges $tmpfs"],
    ['www-data, nothing mounted' => '--cap-drop ALL --user www-data'],
    ['uid 12345, none'          => "--cap-drop ALL --user 12345 $tmpfs"],
    ['uid 12345, nothing mounted' => '--cap-drop ALL --user 12345'],
    ['uid and gid 12345'        => '--cap-drop ALL --user 12345:12345 '
                                   . $tmpfs],
);

# What is done with it: all that the agent and the workers write.
sub use_it {
    my ($what) = @_;
    my $vm = eval { json(inside('confined', 'curl -s -X POST '
                                . "http://localhost:8080/vms -d '{}'")) };
    like($vm->{id} // '', qr/^vm_/, "$what: a VM is made");
    my $route = eval { json(inside('confined',
        "curl -s -X POST http://localhost:8080/vms/$vm->{id}/routes "
        . q{-d '{"target_port": 80}'})) };
    like($route->{id} // '', qr/^rt_/, "$what: and a route");
    wait_until("$what: all workers have it", sub {
        my $r = outside_get('/healthz');
        $r->{status} == 200 && json($r->{body})->{route_count} == 1;
    });
    # more than what fits into nginx's memory
    is(outside_get(':9090/', "-X POST -H 'Host: x.hatch.localhost' "
                   . "-d \@$dir/upload")->{status}, 404,
       "$what: uploads are taken");
    is(inside('confined', "curl -s -o /dev/null -w '%{http_code}' -X DELETE "
              . "http://localhost:8080/vms/$vm->{id}"), 200,
       "$what: and deleted again");
}

write_file("$dir/upload", 'x' x 200_000);
mkdir "$dir/images";
write_file("$dir/images/vmlinuz", 'kernel');

for (@ways) {
    my ($what, $arguments) = @$_;
    run_container('confined', '-p 8080:8080 -p 9090:9090 -e '
                  . 'HATCH_DEFAULT_KERNEL_PATH=/boot-image/vmlinuz '
                  . "-v $dir/images:/boot-image:ro $arguments hatch:latest");
    wait_until("$what: ready", sub { outside_get('/readyz')->{status} == 200 })
        or diag container_log('confined');
    use_it($what);
    unlike(container_log('confined'), qr/\[warn\]| warning: |cannot|denied/i,
           "$what: nothing is complained of");
    podman('stop confined');
    is(exit_code('confined'), 0, "$what: it ends with 0");
    remove('confined');
    podman('volume rm -f hatch');
}

# what it cannot do without, it names
for ([' /run/hatch' => '--read-only --read-only-tmpfs=false'],
     ['/var/lib/hatch' => '--read-only --read-only-tmpfs=false '
                          . '--tmpfs /run/hatch'])
{
    my ($folder, $arguments) = @$_;
    $folder =~ s/^ //;
    run_container('confined', "$arguments hatch:latest");
    is(exit_code('confined'), 1, "$folder cannot be written: 1");
    like(container_log('confined'), qr/^hatch-start: \Q$folder\E cannot be /m,
         'and that is said');
    remove('confined');
}

all_done();
