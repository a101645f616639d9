#!/usr/bin/perl

# A host that is rebooted, and one whose power is cut, while it is used: no
# write that was acknowledged is lost, a reboot keeps every VM's memory, after a
# cut every VM is there, with memory that was saved, and its disk is whole.
#
# Two of each, or HATCH_REBOOTS and HATCH_CUTS (`make test-power`: 20).  The host
# is on an ext4 of its own (t/lib/host), so a cut loses what was not synced.
# Clients outlive it; each notes what it tries and what was acknowledged.  Every
# other cut is right after one kind of write, with nothing behind it that would
# have brought it to the disk along with its own.  HATCH_RANDOM_SEED repeats what
# the clients choose, not when the power goes.

use strict;
use warnings;

use JSON::PP;
use Test::Hatch world => 'plain';
use Test::Hatch::Host ();
use Test::Hatch::Ledger;
use Test::More;
use Time::HiRes qw(time);

my $host = "$top/t/lib/host";
my $root = '/run/hatch-host/root';
my $build = '/hatch/' . ($Test::Hatch::build =~ m{([^/]+)\z})[0];
my $seed = $ENV{HATCH_RANDOM_SEED} // time ^ $$;
my $reboots = $ENV{HATCH_REBOOTS} // 2;
my $cuts = $ENV{HATCH_CUTS} // 2;
my $api = '127.0.0.1:8080';
my $bound = 60;                 # seconds until a VM answers after a boot

srand $seed;
diag "HATCH_RANDOM_SEED=$seed, $reboots reboots, $cuts cuts";
$ENV{HATCH_HOST_DISK} = "$dir/disk";
END { system $host, 'down' if -e '/run/hatch-host/name' }

# without the end of its last line
sub in_host { return Test::Hatch::Host::host(@_) =~ s/\n\z//r }

# Into the host's network; each boot has another one.
sub enter {
    my ($outside) = slurp('/run/hatch-host/pid') =~ /(\d+)/;
    my ($first) = slurp("/proc/$outside/task/$outside/children") =~ /(\d+)/;
    open my $net, '<', "/proc/$first/ns/net" or die "no network: $!";
    my $setns = 308;
    syscall($setns, fileno $net, 0) == 0 or die "setns: $!";
}

# --- the host ---

# With these a service has a /proc of its own, and so this machine's boot_id,
# which no reboot here changes, instead of the one that nspawn puts over it.
my $proc = <<'CONF';
[Service]
ProtectProc=default
ProtectKernelTunables=no
ProtectControlGroups=no
CONF

my $site = <<'CONF';
hatch_route_store /var/lib/hatch/routes;
upstream vms { hatch; }
server {
    listen 127.0.0.1:8080;
    location = /readyz { hatch_readyz; }
    location / {
        hatch_api;
        proxy_pass http://unix:/run/hatch/agent.sock:;
        proxy_read_timeout 5m;
    }
}
server {
    listen 127.0.0.1:9090;
    location / {
        hatch_route hatch.localhost;
        proxy_pass http://vms;
        proxy_set_header Host $host;
    }
}
CONF

sub put {
    my ($path, $text) = @_;
    return "mkdir -p \$(dirname $path); cat > $path <<'EOF'\n${text}EOF\n";
}

is(system($host, 'up') >> 8, 0, 'a Debian host boots') or BAIL_OUT('no host');
in_host("cp $build/hatch-agent $build/hatch-zone /usr/sbin\n"
        . put('/etc/hatch/agent.json', '{ "default_mem_mib": 128 }' . "\n")
        . put('/etc/nginx/modules-enabled/99-hatch.conf',
              "load_module $build/ngx_http_hatch_module.so;\n")
        . put('/etc/nginx/conf.d/hatch.conf', $site)
        . "cd /hatch/deploy/systemd\n"
        . "cp hatch-agent.service hatch-guests.service /etc/systemd/system\n"
        . "mkdir -p /etc/tmpfiles.d\n"
        . "cp hatch-agent.tmpfiles /etc/tmpfiles.d/hatch-agent.conf\n"
        . "cp hatch-module.tmpfiles /etc/tmpfiles.d/hatch-module.conf\n"
        . "systemd-tmpfiles --create\n"
        . put('/etc/systemd/system/hatch-agent.service.d/proc.conf', $proc)
        . "cd /var/lib/hatch/images\n"
        . "cp $build/image/vmlinuz $build/image/initrd .\n"
        . "qemu-img create -q -f qcow2 base.qcow2 8M\n"
        . "systemctl -q enable --no-reload hatch-guests hatch-agent\n"
        . "systemctl start hatch-guests hatch-agent\n"
        . "systemctl restart nginx; sync -f /");
enter();
$Test::Hatch::nginx_started = 1;            # so api() asks it
is(readyz()->{status}, 'ready', 'agent and nginx are up')
    or BAIL_OUT(in_host('journalctl -n 30 --no-pager'));

# --- what is there ---

my $ledger = Test::Hatch::Ledger->new("$dir/acknowledged");
my $memory = Test::Hatch::Ledger->new("$dir/memory");
my (%vm, %visited);

# A write: what is acknowledged is noted before anything else is done.
sub change {
    my ($key, $value, $method, $path, $body) = @_;
    $ledger->try($key, $value);
    my $r = http($api, $method, $path,
                 defined $body ? JSON::PP->new->encode($body) : undef);
    return if !$r || $r->{status} !~ /^2/;
    $ledger->ack($key, $value);
    return eval { json($r->{body}) } // {};
}

sub create {
    my ($name, %fields) = @_;
    my $made = change("vm/$name", 'there', 'POST', '/vms',
                      { name => $name, image_id => 'img_power', %fields });
    $vm{$name} = $made->{id} if $made;
    return $made;
}

sub state_of {
    my ($name) = @_;
    my $r = http($api, 'GET', "/vms/$vm{$name}");
    return $r && $r->{status} == 200 ? json($r->{body})->{state} : '';
}

# What the guest has in its memory and on its disk, with a new value or not.
sub guest {
    my ($name, $value) = @_;
    my $r = http('127.0.0.1:9090', 'GET',
                 '/cgi-bin/state' . (defined $value ? "?$value" : ''), undef,
                 Host => "$name.hatch.localhost");
    return if !$r || $r->{status} != 200;
    my %state = $r->{body} =~ /^(memory|disk) (.*)$/mg;
    return \%state;
}

# Another number for each visit; the guest has synced it when it answers.
sub visit {
    my ($name) = @_;
    my $n = ++$visited{$name};
    $memory->try($name, $n);
    my $state = guest($name, $n) or return 0;
    return 0 if $state->{memory} ne $n || $state->{disk} ne $n;
    $memory->ack($name, $n);
    return 1;
}

my $never = { idle_timeout => undef, save_after => undef };
change('image/img_power', 'there', 'POST', '/images',
       { id => 'img_power', kernel_path => 'vmlinuz', initrd_path => 'initrd',
         rootfs_path => 'base.qcow2', boot_args => 'console=ttyS0 quiet' });
create('always', %$never);
create('auto', idle_timeout => 600, autostart => JSON::PP::true);
create('sleeper', %$never);
create('paused', idle_timeout => 600, save_after => undef);
create('cold', %$never);
my @guests = qw(always auto sleeper paused);
is(keys %vm, 5, 'five VMs') or BAIL_OUT(in_host('journalctl -u hatch-agent'));
change("route/$_", 80, 'POST', "/vms/$vm{$_}/routes",
       { subdomain => $_, target_port => 80 }) for @guests;
api('POST', "/vms/$vm{cold}/stop", { force => JSON::PP::true });
change('mem/cold', 129, 'PATCH', "/vms/$vm{cold}", { mem_mib => 129 });
change('idle/always', 7, 'PATCH', "/vms/$vm{always}", { save_after => 7 });
for my $name (@guests) {
    ok(wait_until("$name answers", sub { visit($name) }, 60), "$name answers");
}

api('PATCH', "/vms/$vm{sleeper}", { idle_timeout => 0.5, save_after => 0.5 });

# All that the ledger may name, as it is.
sub found {
    my %found;

    for my $vm (@{ api('GET', '/vms')->{json} }) {
        $found{"vm/$vm->{name}"} = 'there';
        $found{"mem/$vm->{name}"} = $vm->{mem_mib} if $vm->{name} eq 'cold';
        $found{"idle/$vm->{name}"} = $vm->{save_after}
            if $vm->{name} eq 'always';
        for my $snap (@{ api('GET', "/vms/$vm->{id}/snapshots")->{json} }) {
            $found{"snapshot/$snap->{name}"} = 'there';
        }
    }
    for my $image (@{ api('GET', '/images')->{json} }) {
        $found{"image/$image->{id}"} = 'there';
    }
    for my $route (@{ api('GET', '/routes?limit=1000')->{json} }) {
        $found{"route/$route->{subdomain}"} = $route->{target_port};
    }

    return \%found;
}

# --- those who write ---

my (@names, %id);
my $number = 0;

sub any { return $names[rand @names] }

sub route_create {
    my $name = 'r' . ++$number;
    my $route = change("route/$name", 80, 'POST', "/vms/$vm{always}/routes",
                       { subdomain => $name, target_port => 80 }) or return;
    $id{$name} = $route->{id};
    push @names, $name;
}

sub route_patch {
    my $name = any() or return route_create();
    my $port = 1 + int rand 65535;
    return change("route/$name", $port, 'PATCH', "/routes/$id{$name}",
                  { target_port => $port });
}

sub route_delete {
    my $name = any() or return route_create();
    @names = grep { $_ ne $name } @names;
    return change("route/$name", undef, 'DELETE', "/routes/$id{$name}");
}

sub settings {
    my $value = 1 + int rand 100000;
    return change('idle/always', $value, 'PATCH', "/vms/$vm{always}",
                  { save_after => $value });
}

sub memory_size {
    my $value = 128 + int rand 64;
    return change('mem/cold', $value, 'PATCH', "/vms/$vm{cold}",
                  { mem_mib => $value });
}

sub image {
    my $name = 'img_' . ++$number;
    return change("image/$name", 'there', 'POST', '/images',
                  { id => $name, kernel_path => 'vmlinuz' });
}

sub image_delete {
    image() or return;
    return change("image/img_$number", undef, 'DELETE', "/images/img_$number");
}

# of what is new and of what is old: there is one at a time
sub snapshot {
    my $name = 's' . ++$number;
    if (my ($old) = grep /^s\d/, keys %id) {
        change("snapshot/$old", undef, 'DELETE', "/snapshots/$id{$old}")
            or return;
        delete $id{$old};
    }
    my $made = change("snapshot/$name", 'there', 'POST',
                      "/vms/$vm{always}/snapshot",
                      { name => $name, keep_running => JSON::PP::true })
        or return;
    return $id{$name} = $made->{id};
}

sub snapshot_delete {
    my ($old) = grep /^s\d/, keys %id;
    $old or return snapshot();
    change("snapshot/$old", undef, 'DELETE', "/snapshots/$id{$old}") or return;
    return delete $id{$old};
}

sub vm_create { return create('v' . ++$number, %$never) }

sub vm_delete {
    my ($name) = @_ ? @_ : grep /^v\d/, keys %vm;
    $name or return vm_create();
    change("vm/$name", undef, 'DELETE', "/vms/$vm{$name}") or return;
    return delete $vm{$name};
}

# From here on its memory has to be kept.
sub sleeps {
    visit('sleeper') or return;
    return wait_until('it sleeps', sub {
        state_of('sleeper') eq 'snapshotted'
    }, 30);
}

# From here on memory of before would not belong to the disk.
sub wakes { return visit('sleeper') }

sub given_up {
    my $r = http($api, 'POST', "/vms/$vm{sleeper}/stop", '{}');
    return $r && $r->{status} == 200;
}

# The last one before the power goes, each in its turn; one VM sleeps.
my @last = (
    settings => \&settings, wakes => \&wakes, vm_delete => \&vm_delete,
    sleeps => \&sleeps, given_up => \&given_up, vm_create => \&vm_create,
    memory_size => \&memory_size, snapshot => \&snapshot,
    route_delete => \&route_delete, image => \&image,
    route_patch => \&route_patch, snapshot_delete => \&snapshot_delete,
    route_create => \&route_create, image_delete => \&image_delete,
);
my @often = ((\&route_create, \&route_patch, \&route_delete, \&settings,
              \&memory_size, \&image, \&image_delete) x 3,
             \&snapshot, \&snapshot_delete, \&vm_create, \&vm_delete);

# What the host has decides with what the next client goes on.
sub remember {
    @names = %id = ();
    for my $route (@{ api('GET', '/routes?limit=1000')->{json} }) {
        $id{ $route->{subdomain} } = $route->{id};
        push @names, $route->{subdomain} if $route->{subdomain} =~ /^r\d/;
    }
    %vm = map { $_->{name} => $_->{id} } @{ api('GET', '/vms')->{json} };
    for my $snap (@{ api('GET', "/vms/$vm{always}/snapshots")->{json} }) {
        $id{ $snap->{name} } = $snap->{id};
    }
    for my $key (keys %{ $ledger->expected }) {
        $number = $1 if $key =~ /[a-z_](\d+)$/ && $1 > $number;
    }
    my $told = $memory->expected;
    $visited{$_} = $told->{$_}[-1] for @guests;
}

# A client: a process that does one thing after the other until it is ended.
# It leaves some of the processor to the guests.
sub client {
    my ($work) = @_;
    my $seed = int rand 2 ** 31;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;

    srand $seed;
    while (1) {
        $work->();
        select undef, undef, undef, 0.02;
    }
}

sub end {
    my (@clients) = @_;
    kill 'KILL', @clients;
    waitpid $_, 0 for @clients;             # none is there a second time
}

# --- after a boot ---

my ($slowest, $lost) = (0, 0);

sub complaints {
    return in_host('journalctl -q -p err -o cat --no-pager -u hatch-agent'
                   . ' -u hatch-guests -u nginx;'
                   . ' grep -hE "\[(alert|crit|emerg|error)\]"'
                   . ' /var/log/nginx/error.log; :');
}

# The guest has what it was told last, or what it was just being told.  Its
# memory was kept (1), or perhaps (0), or was given up by a user (-1).
sub check_guest {
    my ($name, $kept) = @_;
    my ($since, $state) = time;

    wait_until("$name answers", sub { $state = guest($name) }, $bound)
        or return;
    $slowest = time - $since if time - $since > $slowest;

    my @may = @{ $memory->expected->{$name} };
    my $may = join '|', map $_ // '', @may;
    my $what = $kept > 0 ? "$name has its memory"
             : $kept < 0 ? "$name has no memory that was given up"
             : "$name has its memory, or none, but not that of before";
    like($state->{memory}, $kept > 0 ? qr/^(?:$may)$/
                           : $kept < 0 ? qr/^$/ : qr/^(?:$may)?$/, $what)
        or diag(in_host('journalctl -q -o cat -b -u hatch-agent | tail -30'));
    like($state->{disk}, qr/^(?:$may)$/, "$name has its disk");
    $lost++ if $state->{memory} eq '';
}

# What a power cut may cost a qcow2 is clusters that nobody uses (3).
sub check_disks {
    my @bad;

    for my $disk (glob "$root/var/lib/hatch/agent/disks/*.qcow2") {
        my $inside = substr $disk, length $root;
        my $out = qx(chroot $root qemu-img check '$inside' 2>&1);
        push @bad, $out if $? != 0 && $? >> 8 != 3;
    }

    is(join('', @bad), '', 'all disks are whole');
}

sub check {
    my (%kept) = @_;
    my $all = 1;

    enter();
    $all &= is(readyz()->{status}, 'ready', 'agent and nginx are up');
    $all &= is(join("\n", $ledger->wrong(found())), '',
               'what was acknowledged is there');
    for my $name (qw(always auto)) {
        $all &= ok(wait_until("$name runs", sub {
            state_of($name) eq 'running'
        }, $bound), "$name runs by itself");
    }
    for my $name (grep $kept{$_}, qw(sleeper paused)) {
        my $state = $kept{$name} > 0 ? 'snapshotted' : 'stopped';
        $all &= is(state_of($name), $state, "$name is $state");
    }
    check_guest($_, $kept{$_} // 0) for @guests;
    ok(visit($_), "$_ can be used") for @guests;
    $all &= is(complaints(), '', 'nobody complained');
    diag(in_host('journalctl -q -o cat -b -u hatch-agent | tail -30'))
        if !$all;
    remember();
}

# A while of use, with writes; one VM is paused by a user, and stays so.
sub use_it {
    my ($seconds) = @_;

    api('POST', "/vms/$vm{paused}/pause");
    my @clients = client(sub { $often[rand @often]->() });
    push @clients, client(sub {
        visit($_) for qw(always auto);
        visit('sleeper') if rand 30 < 1;
    });
    select undef, undef, undef, $seconds;
    return @clients;
}

remember();
is(join("\n", $ledger->wrong(found())), '', 'all that was made is there');

# --- the host goes, and comes again ---

for my $n (1 .. $reboots) {
    my @clients = use_it(1 + rand 3);
    note("reboot $n");
    my $since = time;
    is(system($host, 'reboot') >> 8, 0, "reboot $n");
    diag sprintf 'rebooted in %.1f s', time - $since;
    end(@clients);
    check(map { $_ => 1 } @guests);
}

for my $n (1 .. $cuts) {
    my @clients = use_it(1 + rand 3);
    my ($kept, $name, $code);
    if ($n % 2) {
        end(@clients);
        remember();
        sleeps();
        ($name, $code) = @last[$n - 1, $n] if $n < @last;
        ($name, $code) = @last[$n - 1 - @last, $n - @last] if !$name;
        ok($code->(), "the last one: $name");
        $kept = $name eq 'wakes' ? 0 : $name eq 'given_up' ? -1 : 1;
    }
    is(system($host, 'cut') >> 8, 0, "cut $n");
    end(@clients);
    check_disks();
    is(system($host, 'boot') >> 8, 0, 'and it boots');
    check(sleeper => $kept // 0);
}

# --- each is on disk when it is answered ---

# Looks at what would be there if the power went now.
sub on_disk {
    my ($what, $done, $code) = @_;
    my $peek = "$dir/peek";
    my $up = "$peek/up";

    ok($done, $what);
    is(system($host, 'peek', $peek) >> 8, 0, 'a look at the disk');
    ok($code->($up), "$what: is on disk");
    system('umount', $peek) == 0 or die;
}

sub domain { return slurp("$_[0]/etc/libvirt/qemu/$_[1].xml") }
sub save_file { return "$_[0]/var/lib/libvirt/qemu/save/$vm{sleeper}.save" }

my $created = vm_create();
my $v = $created->{id};
on_disk('POST /vms', $created, sub {
    my $state = "$_[0]/var/lib/hatch/agent";
    domain($_[0], $v) =~ m{</domain>}
        && slurp("$state/seeds/$v.iso") eq
           slurp("$root/var/lib/hatch/agent/seeds/$v.iso")
        && qx(qemu-img info --output json $state/disks/$v.qcow2)
           =~ /"virtual-size": 8388608,/
        or diag(qx(ls -l $state/*/$v*; qemu-img info $state/disks/$v.qcow2 2>&1))
});
on_disk('PATCH of settings', settings(), sub {
    my $value = $ledger->expected->{'idle/always'}[0];
    domain($_[0], $vm{always}) =~ /save_after="${value}000"/
});
on_disk('PATCH of memory', memory_size(), sub {
    my $kib = 1024 * $ledger->expected->{'mem/cold'}[0];
    domain($_[0], $vm{cold}) =~ />$kib</
});
on_disk('DELETE', vm_delete($created->{name}), sub { domain($_[0], $v) eq '' });
my $size;
on_disk('asleep', sleeps(), sub {
    my $file = save_file($_[0]);
    $size = -s save_file($root);
    slurp($file) =~ /^LibvirtQemudSave/ && -s $file == $size
});
on_disk('awake', wakes(), sub { !-e save_file($_[0]) });
sleeps();
on_disk('given up', given_up(), sub { !-e save_file($_[0]) });

diag sprintf '%d writes acknowledged, %d guests booted anew, the slowest '
             . 'answered after %.1f s', $ledger->acknowledged, $lost, $slowest;
is(system($host, 'down') >> 8, 0, 'down');

done();
