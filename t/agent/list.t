#!/usr/bin/perl

# 250 VMs made by four clients at once; list, filters and pages.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

start_agent(env => { HATCH_LOG_LEVEL => 'info' });

my @pids;
for my $client (0 .. 3) {
    my $pid = fork // die;
    if (!$pid) {
        my $n = 0;
        for my $i (grep $_ % 4 == $client, 0 .. 249) {
            $n++ if create_vm({ $i % 5 == 0 ? (name => "vm.$i") : () });
        }
        POSIX::_exit($n >= 62 ? 0 : 1);
    }
    push @pids, $pid;
}
for (@pids) { waitpid $_, 0; is($?, 0, 'a client made its VMs') }

my @all = @{ api('GET', '/vms')->{json} };
is(scalar @all, 250, 'all of them');
for my $field (qw(id name guest_ip guest_mac)) {
    my %seen = map { $_->{$field} => 1 } @all;
    is(scalar keys %seen, 250, "no $field twice");
}
is(join(' ', map $_->{created_at}, @all),
   join(' ', reverse sort map $_->{created_at}, @all), 'newest first');
is(zone()->{vm_count}, 250, 'the zone counts them');
is(scalar(grep $_->{name} =~ /\S/, @{ zone()->{vms} }), 250,
   'and has their names');

# pages: all of them, once each, in the same order
sub pages {
    my ($query) = @_;
    my ($path, @ids, $n) = ("/vms?$query");
    while ($path) {
        my $r = api('GET', $path);
        push @ids, map $_->{id}, @{ $r->{json} };
        ($path) = ($r->{headers}{link} // '') =~ /^<(.*)>; rel="next"$/;
        die 'endless' if $n++ > 1000;
    }
    return @ids;
}
is(join(' ', pages("limit=$_")), join(' ', map $_->{id}, @all),
   "pages of $_") for 1, 7, 100, 249, 250, 251, 1000;
is(scalar @{ api('GET', "/vms?after=$all[9]{id}&limit=3")->{json} }, 3,
   'behind one by its id');
is(api('GET', "/vms?after=$all[9]{id}&limit=1")->{json}[0]{id}, $all[10]{id},
   'the next one');
is_deeply(api('GET', "/vms?after=$all[-1]{id}")->{json}, [], 'behind the last');

# a page goes on where it was when its last VM has gone
my $r = api('GET', '/vms?limit=10');
my ($next) = $r->{headers}{link} =~ /^<(.*)>/;
api('DELETE', "/vms/$r->{json}[9]{id}");
is(api('GET', $next)->{json}[0]{id}, $all[10]{id}, 'although it was deleted');
splice @all, 9, 1;

# filters
my %stop = map { $_->{id} => 1 } @all[3, 50, 200];
api('POST', "/vms/$_/stop", { force => JSON::PP::true }) for keys %stop;
api('POST', "/vms/$all[7]{id}/pause");
sub ids { return join ' ', map $_->{id}, @{ api('GET', "/vms?$_[0]")->{json} } }
is(ids('state=stopped'), join(' ', map $_->{id}, grep $stop{$_->{id}}, @all),
   'by a state');
is(ids('state=paused'), $all[7]{id}, 'another');
is(ids('state=stopped,paused'),
   join(' ', map $_->{id}, grep $stop{$_->{id}} || $_->{id} eq $all[7]{id},
        @all), 'two states');
is(ids('state=error'), '', 'none');
is(join(' ', pages('state=stopped&limit=2')), ids('state=stopped'),
   'pages keep the filter');
is(scalar(split ' ', ids('state=running')), 245, 'the rest');
is(scalar @{ api('GET', '/vms?name=vm.5')->{json} }, 1, 'by name');
is(ids('name=nobody'), '', 'nobody');

for (['limit=0', '"limit" must be 1 to 1000, not "0"'],
     ['limit=1001', '"limit" must be 1 to 1000'],
     ['limit=x', '"limit" must be 1 to 1000'],
     ['limit=-1', '"limit" must be'],
     ['limit=', '"limit" must be'],
     ['limit', '"limit" has no value'],
     ['limit=1&limit=2', '"limit" is given twice'],
     ['limit=+5', '"limit" must be'],
     ['limit=%205', '"limit" must be'],
     ['limit=9999999999999999999', '"limit" must be'],
     ['state=asleep', '"state" must be a state'],
     ['state=', '"state" must be a state'],
     ['state=running,', '"state" must be a state'],
     ['after=x', '"after" must be the id of a VM, not "x"'],
     ['after=vm_aaaaaaaaaaaaaaaa', '"after" must be the id of a VM'],
     ["after=$all[0]{id}.x", '"after" must be the id of a VM'],
     ['colour=red', 'unknown query argument "colour"'])
{
    my ($query, $words) = @$_;
    $r = api('GET', "/vms?$query");
    is($r->{status}, 400, "400: $query");
    is($r->{json}{code}, 'invalid_argument', 'code');
    like($r->{json}{error}, qr/\Q$words/, "says: $words");
}

done();
