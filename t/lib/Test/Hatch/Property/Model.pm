package Test::Hatch::Property;

# The model of Property.pm, and what its guests have: what may be there, and
# what an answer, or none, says about that.

use strict;
use warnings;

use Test::Hatch;
use Test::More;
use Time::HiRes ();

our $save_dir = '/var/lib/libvirt/qemu/save';

# id => { route, routes => { id => subdomain }, may => { "m/d" => 1 },
#         snaps => { id => { "m/d" => 1 } }, aside => N }
our (%vms, $image, $step, @story, %done, %unsure);
our $text = 0;


sub pick { return $_[rand @_] }

# In the order in which they came: ids are random, and a seed repeats.
my %born;
sub oldest {
    $born{$_} //= keys %born for sort @_;
    return sort { $born{$a} <=> $born{$b} } @_;
}
sub some { return pick(oldest(keys %vms)) }
sub vm_disk { return "$dir/state/disks/$_[0].qcow2" }
sub saved { return "$save_dir/$_[0].save" }
sub pause { select undef, undef, undef, $_[0] }

sub say_step {
    push @story, sprintf '%6.1f %4d %s', Time::HiRes::time() - $^T, $step,
                         "@_";
    note($story[-1]);
}


# Fails with what happened before.
sub wrong {
    my ($what) = @_;
    fail("step $step: $what");
    my $from = @story > 60 ? @story - 60 : 0;
    diag(join "\n", @story[$from .. $#story]);
    my @log = split /\n/, agent_log();
    diag('agent: ', join "\n", @log > 30 ? @log[-30 .. -1] : @log);
    diag('QEMU: ', qx(ps -eo pid,args | grep -o '[0-9]* .*guest=[^,]*'));
    return;
}


# --- the model ---

sub may_set { my ($vm, @may) = @_; $vm->{may} = { map { $_ => 1 } @may } }

# Its memory is gone: it boots, or is about to.
sub lost_memory {
    my ($vm, $surely) = @_;
    my @boot = map { m{/(.*)} ? "/$1" : () } keys %{ $vm->{may} };
    may_set($vm, @boot, $surely ? () : keys %{ $vm->{may} });
}

sub add_vm {
    my ($json) = @_;
    my $id = $json->{id};
    $vms{$id} = { may => { '/' => 1 }, snaps => {}, routes => {}, aside => 0 };
    return $id;
}


# Was it done?  1, 0, or undef if nobody can say.
sub outcome {
    my ($r) = @_;
    return undef if !$r || $r->{status} == 502 || $r->{status} == 504;
    return 1 if $r->{status} < 300;
    return 0 if $r->{status} < 500;
    # a call that libvirt's end cut off may have gone through
    return $r->{body} =~ /onnection|libvirt|closed|reset/ && $r->{cut}
           ? undef : 0;
}


# What an answer means for the model.
sub learn {
    my ($vm_id, $method, $path, $r, $body) = @_;
    my $vm = $vms{$vm_id // ''};
    my $ok = outcome($r);
    my $sure = defined $ok;

    return if $sure && !$ok;
    if ($method eq 'POST' && $path eq '/vms') {
        $sure ? add_vm($r->{json}) : $unsure{vm}++;
    } elsif ($method eq 'DELETE' && $path =~ m{^/vms/(\w+)$}) {
        $sure ? delete $vms{$1} : ($vms{$1}{maybe_gone} = 1);
    } elsif (!$vm) {
        return;
    } elsif ($path =~ m{/stop$}) {
        lost_memory($vm, $sure);
    } elsif ($path =~ m{/snapshot$}) {
        $sure ? ($vm->{snaps}{ $r->{json}{id} } = { %{ $vm->{may} } })
              : ($vm->{unsure_snap} = { %{ $vm->{may} } });
    } elsif ($path =~ m{/restore$}) {
        my $snap = $vm->{snaps}{ $body->{snapshot_id} };
        may_set($vm, keys %$snap, $sure ? () : keys %{ $vm->{may} });
    } elsif ($method eq 'DELETE' && $path =~ m{^/snapshots/(\w+)}) {
        $sure ? delete $vm->{snaps}{$1} : ($vm->{maybe_snap}{$1} = 1);
    } elsif ($method eq 'POST' && $path =~ m{/routes$}) {
        $sure ? ($vm->{routes}{ $r->{json}{id} } = $r->{json}{subdomain})
              : ($unsure{route} = 1);
    } elsif ($method eq 'DELETE' && $path =~ m{^/routes/(\w+)}) {
        $sure ? delete $vm->{routes}{$1} : ($unsure{route} = 1);
    }
}


# After an end of somebody's: what became of what nobody was told of.
sub settle {
    wait_until('nothing is pending', sub {
        my @notes = glob "$dir/state/pending/*";
        return !@notes && (zone() // {})->{libvirt} eq 'connected';
    }, 60) or return wrong('an operation is not recovered');

    my @list = @{ api('GET', '/vms')->{json} };
    my %there = map { $_->{id} => $_ } @list;
    for my $id (sort keys %vms) {
        delete $vms{$id} if $vms{$id}{maybe_gone} && !$there{$id};
        delete $vms{$id}{maybe_gone} if $vms{$id};
    }
    if (delete $unsure{vm}) { $vms{$_} or add_vm($there{$_}) for keys %there }

    for my $id (sort keys %vms) {
        my $vm = $vms{$id};
        my $r = api('GET', "/vms/$id/snapshots");
        my %snaps = map { $_->{id} => 1 }
                    ref $r->{json} eq 'ARRAY' ? @{ $r->{json} } : ();
        my $gone = delete $vm->{maybe_snap} // {};
        $snaps{$_} or delete $vm->{snaps}{$_} for keys %$gone;
        my $may = delete $vm->{unsure_snap} or next;
        $vm->{snaps}{$_} //= { %$may } for keys %snaps;
    }
    my $routes = delete $unsure{route} ? api('GET', '/routes')->{json} : [];
    if (@$routes) { $_->{routes} = {} for values %vms }
    for my $route (@$routes) {
        my $vm = $vms{ $route->{vm_id} } or next;
        $vm->{routes}{ $route->{id} } = $route->{subdomain};
    }
}


# --- a guest ---

sub has {
    my ($r) = @_;
    return if !$r || $r->{status} != 200;
    my %state = $r->{body} =~ /^(\w+) (.*)$/mg;
    return defined $state{disk} ? "$state{memory}/$state{disk}" : undef;
}

# Reads the guest, and wakes it for that.
sub look {
    my ($id, $what) = @_;
    my $vm = $vms{$id};
    my ($have, $last);
    wait_until("$what: the guest $id answers", sub {
        my $r = page($vm->{route}, '/cgi-bin/state');
        $have = has($r);
        return 1 if defined $have;
        $last = $r ? "$r->{status} $r->{body}" : 'no answer';
        pause(.1);
        return 0;
    }, 90) or return wrong("$what: $id does not answer: $last");
    say_step("$id has $have ($what)");
    $vm->{may}{$have} or wrong("$what: $id has \"$have\", not one of \""
                               . join('", "', sort keys %{ $vm->{may} }) . '"');
    may_set($vm, $have);
}

sub write_text {
    my ($id, $r, $new) = @_;
    my $vm = $vms{$id};
    my $have = has($r);
    my %may = map { m{/(.*)} ? ("$new/$1" => 1) : () }
              keys %{ $vm->{may} };
    return may_set($vm, "$new/$new") if defined $have && $have eq "$new/$new";
    return wrong("$id was written $new, and has $have") if defined $have;
    # a request that was refused never came to the guest
    return if $r && $r->{status} == 503;
    may_set($vm, keys %may, "$new/$new", keys %{ $vm->{may} });
}

sub write_guest {
    my ($id) = @_;
    my $new = 't' . ++$text;
    my $r = page($vms{$id}{route}, "/cgi-bin/state?$new");
    say_step("write $new to $id ->", $r ? $r->{status} : 'no answer');
    write_text($id, $r, $new);
}


1;
