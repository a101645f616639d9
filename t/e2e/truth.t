#!/usr/bin/perl

# 200 random operations, by our API and with virsh behind its back; after
# each, zone and /healthz are compared with libvirt and with the routes that
# must be there.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;
use Time::HiRes qw(time);

my $operations = $ENV{HATCH_TRUTH_OPERATIONS} // 200;
my $seed = $ENV{HATCH_TRUTH_SEED} // int rand 1 << 30;
srand $seed;
diag("seed $seed");

start_agent(connect => 'qemu:///system', env => { HATCH_LOG_LEVEL => 'info' });
start_nginx();

# a domain that is not ours
write_file("$dir/foreign.xml", <<'EOF');
<domain type='qemu'>
  <name>foreign</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
</domain>
EOF
virsh("define $dir/foreign.xml");

my (%routes, @late, @took);

# What libvirt says: id => running or not.
sub truth {
    my %all = map { $_ => 'stopped' } grep /^vm_/,
              split ' ', virsh('list --all --name');
    $all{$_} = 'running' for grep /^vm_/,
                             split ' ', virsh('list --state-running --name');
    return \%all;
}

sub pick {
    my ($all, $state) = @_;
    my @ids = grep !$state || $all->{$_} eq $state, sort keys %$all;
    return $ids[rand @ids];
}

my @operations = (
    ['POST /vms', sub {
        my ($all) = @_;
        return if keys %$all >= 5;
        return !!create_vm();
    }],
    ['DELETE /vms/{id}', sub {
        my $id = pick($_[0]) // return;
        delete $routes{$id};
        return api('DELETE', "/vms/$id")->{status} == 200;
    }],
    ['stop', sub {
        my $id = pick($_[0], 'running') // return;
        return api('POST', "/vms/$id/stop", { force => JSON::PP::true })
               ->{status} == 200;
    }],
    ['start', sub {
        my $id = pick($_[0], 'stopped') // return;
        return api('POST', "/vms/$id/start")->{status} == 200;
    }],
    ['POST routes', sub {
        my $id = pick($_[0]) // return;
        my $route = create_route($id) or return 0;
        $routes{$id}{$route->{id}} = 1;
        return 1;
    }],
    ['DELETE route', sub {
        my ($id) = grep keys %{ $routes{$_} }, sort keys %routes;
        return if !defined $id;
        my ($route) = keys %{ $routes{$id} };
        delete $routes{$id}{$route};
        return api('DELETE', "/routes/$route")->{status} == 200;
    }],
    ['virsh start', sub {
        my $id = pick($_[0], 'stopped') // return;
        virsh("start $id");
        return $? == 0;
    }],
    ['virsh destroy', sub {
        my $id = pick($_[0], 'running') // return;
        virsh("destroy $id");
        return $? == 0;
    }],
    ['virsh undefine', sub {
        my $id = pick($_[0], 'stopped') // return;
        virsh("undefine $id");      # its routes stay
        return $? == 0;
    }],
);

for (1 .. 3) { create_vm() }

for (my $n = 0; $n < $operations; ) {
    my ($name, $do) = @{ $operations[rand @operations] };
    my $done = $do->(truth()) // next;
    my $began = time;

    $n++;
    ok($done, "$n: $name");

    my $all = truth();
    my $routes = 0;
    $routes += keys %$_ for values %routes;
    my ($health, $zone, $last);
    my $looks = 0;

    wait_until("$name is visible", sub {
        $looks++;
        $health = healthz()->{json};
        $last = time;
        return $health->{vm_count} == keys %$all
               && $health->{route_count} == $routes;
    }, 5) or diag(explain($health), scalar keys %$all, " VMs, $routes routes");

    # right at the first look: no later than libvirt's own answer to virsh
    my $ms = ($last - $began) * 1000;
    push @took, $ms;
    push @late, sprintf '%s: %.0f ms', $name, $ms if $looks > 1 && $ms > 100;

    wait_until("the states after $name", sub {
        $zone = zone();
        my %seen = map { $_->{id} => $_->{state} } @{ $zone->{vms} };
        return "@{[map qq($_=$seen{$_}), sort keys %seen]}"
               eq "@{[map qq($_=$all->{$_}), sort keys %$all]}";
    }, 5) or diag(explain($zone->{vms}), explain($all));
}

@took = sort { $a <=> $b } @took;
diag(sprintf 'seen right in /healthz %.1f ms after the operation (median; '
     . 'two calls of virsh are in it), worst %.1f ms',
     $took[@took / 2], $took[-1]);
diag("later than 100 ms: @late") if @late;
cmp_ok(scalar @late, '<=', $operations / 50,
       'within 100 ms, however busy this machine is with booting guests');

like(virsh('domstate foreign'), qr/shut off/, 'the foreign domain is as it was');

done();
