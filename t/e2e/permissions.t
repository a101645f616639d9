#!/usr/bin/perl

# Who may do what: the store belongs to the workers' user, the zone to the
# agent; what a worker may not write is refused at nginx -t.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::More;

my ($rc, $out) = nginx_t(nginx_conf());
is($rc, 0, 'nginx -t') or diag $out;
my @st = stat "$dir/routes";
is((getpwuid $st[4])[0], 'www-data', 'the store belongs to the workers');
is($st[2] & 07777, 0700, 'and to nobody else');
@st = stat "$dir/routes/data.mdb";
is((getpwuid $st[4])[0], 'www-data', 'its file, too');
is($st[2] & 07777, 0600, 'with mode 0600');
ok(!-e "$dir/run/zone.activity", 'nginx -t makes no activity file');

# a store that the workers' user may not write
allow_log(qr/hatch_route_store|hatch_zone/);
mkdir "$dir/closed", 0700;
($rc, $out) = nginx_t(nginx_conf() =~ s{$dir/routes}{$dir/closed}r);
is($rc, 1, 'a store that the workers may not write');
like($out, qr{\[emerg\] "hatch_route_store" "$dir/closed": .*Permission denied},
     'names directive, value and reason');

# the same where "user" stands behind the http block
(my $conf = nginx_conf() =~ s{$dir/routes}{$dir/closed}r) =~ s/^user.*\n//m;
($rc, $out) = nginx_t("${conf}user www-data;\n");
is($rc, 1, 'also if "user" comes last');

# a store of something else
mkdir "$dir/foreign";
write_file("$dir/foreign/data.mdb", 'x' x 8192);
chmod 0777, "$dir/foreign";
chmod 0666, "$dir/foreign/data.mdb";
($rc, $out) = nginx_t(nginx_conf() =~ s{$dir/routes}{$dir/foreign}r);
is($rc, 1, 'a store that is none');
like($out, qr/restore it from a copy or move it away/, 'says what to do');

# a disk that is full
mkdir "$dir/full";
system('mount', '-t', 'tmpfs', '-o', 'size=8k,mode=0777', 'tmpfs',
       "$dir/full") == 0 or die;
($rc, $out) = nginx_t(nginx_conf() =~ s{$dir/routes}{$dir/full/routes}r);
is($rc, 1, 'a store on a full disk');
like($out, qr/No space left on device/, 'says so');
system('umount', "$dir/full");

# a zone in a directory that cannot be written
mkdir "$dir/ro";
system('mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', "$dir/ro") == 0 or die;
($rc, $out) = nginx_t(nginx_conf() =~ s{$dir/run/zone}{$dir/ro/zone}r);
is($rc, 1, 'a zone in a directory that is not writable');
like($out, qr{"hatch_zone": directory "$dir/ro" of "$dir/ro/zone" is not writable},
     'says so');
system('umount', "$dir/ro");

# a store that workers reach only by a group that their user is in, too
my $gid = 45678;
mkdir "$dir/shared", 0750;
mkdir "$dir/shared/routes", 02770;
for ("$dir/shared", "$dir/shared/routes") {
    chown 0, $gid, $_;
    chmod $_ =~ /routes/ ? 02770 : 0750, $_;
}
my $by_group = nginx_conf() =~ s{$dir/routes}{$dir/shared/routes}r;
($rc, $out) = nginx_t($by_group);
is($rc, 1, 'a store of a group that the workers are not in');
like($out, qr{\[emerg\] "hatch_route_store" "$dir/shared/routes": .*Permission denied},
     'says so');
my @group = grep !/^hatch-test:/, split /^/, slurp('/etc/group');
write_file("$dir/group", join '', @group, "hatch-test:x:$gid:www-data\n");
system('mount', '--bind', "$dir/group", '/etc/group') == 0 or die;
is((getgrnam 'hatch-test')[3], 'www-data', 'now they are');
($rc, $out) = nginx_t($by_group);
is($rc, 0, 'nginx -t takes it') or diag $out;

# workers that are not in the zone's group
start_agent();
chown 0, 0, "$dir/run/zone";
start_nginx();
my $r = healthz();
is($r->{status}, 503, 'workers that may not read the zone: 503');
like($r->{json}{error}, qr/cannot open zone "\S+": Permission denied/,
     'says why');
chown 0, scalar getgrnam('www-data'), "$dir/run/zone";
everywhere('allowed again', sub { healthz()->{status} == 200 });
is(healthz()->{status}, 200, 'and notices when they may');

# the store that is the group's
sub reload {
    my ($conf) = @_;
    my @old = workers();
    write_file("$dir/nginx.conf", $conf);
    kill 'HUP', Test::Hatch::nginx_pid();
    wait_until('reload', sub {
        my %now = map { $_ => 1 } workers();
        %now == 2 && !grep $now{$_}, @old;
    });
}

my $vm = create_vm();
reload($by_group);
ok(create_route($vm->{id}, 'shared'), 'workers of the group write its store');
ok(-s "$dir/shared/routes/data.mdb", 'that one');
is(api('GET', '/routes')->{json}[0]{subdomain}, 'shared', 'and read it');
system('umount', '/etc/group');

# a disk that becomes full under a running nginx
mkdir "$dir/small";
system('mount', '-t', 'tmpfs', '-o', 'size=400k,mode=0777', 'tmpfs',
       "$dir/small") == 0 or die;
reload(nginx_conf() =~ s{$dir/routes}{$dir/small/routes}r);
my ($n, $full) = (0);
for (1 .. 5000) {
    my $answer = api('POST', "/vms/$vm->{id}/routes", { target_port => 80 });
    if ($answer->{status} != 201) { $full = $answer; last }
    $n++;
}
is($full && $full->{status}, 507, "a full disk after $n routes: 507");
is($full && $full->{json}{code}, 'store_full', 'store_full');
is(healthz()->{json}{route_count}, $n, 'what was acknowledged is there');
my ($one) = @{ api('GET', '/routes?limit=1')->{json} };
ok($one, 'and can be read');
allow_log(qr/No space left on device/);

stop_nginx();
system('umount', "$dir/small");
done();
