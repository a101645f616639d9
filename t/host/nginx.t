#!/usr/bin/perl

# The module's package in Debian's nginx.service: as a site, from conf.d, and as
# a whole configuration.  systemd restarts, reloads and upgrades each, and a
# crowd of idle connections does not silence /healthz.

use strict;
use warnings;

use Test::Hatch world => 'plain';
use Test::Hatch::Host ();
use Test::More;

my $host = "$top/t/lib/host";
my $root = '/run/hatch-host/root';
my $build = '/hatch/' . ($Test::Hatch::build =~ m{([^/]+)\z})[0];
my $example = '/usr/share/doc/libnginx-mod-http-hatch/examples/'
            . 'nginx.conf.example';

# without the end of its last line
sub host { return Test::Hatch::Host::host(@_) =~ s/\n\z//r }

sub succeeds {
    my ($name, $script) = @_;
    my $out = host($script);
    is($? >> 8, 0, $name) or diag(substr $out, -2000);
}

my $health = 'curl -s -m 5 -o /dev/null -w "%{http_code}"'
           . ' 127.0.0.1:8080/healthz';

# systemd knows the process that serves, and that is another one, or the same.
sub serves {
    my ($name, $before, $same) = @_;
    my $now;

    wait_until("$name: served", sub { host($health) eq '200' });
    is(host('systemctl is-active nginx'), 'active', "$name: active");
    wait_until("$name: one master", sub {
        $now = host('systemctl show -P MainPID nginx');
        $now == host('cat /run/nginx.pid')
            && host('pgrep -fc "^nginx: master"') == 1;
    });
    is($now == $before, !!$same, "$name: " . ($same ? 'the same' : 'another')
                                 . ' nginx') if $before;
    return $now;
}

# Connections that do nothing: each second one has had an answer, and is kept.
write_file("$dir/crowd", <<'END');
use IO::Socket::INET;
my @crowd = map IO::Socket::INET->new(PeerAddr => '127.0.0.1:8080') // die($!),
                1 .. 1520;
for my $i (grep $_ % 2, 0 .. $#crowd) {
    $crowd[$i]->syswrite("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    $crowd[$i]->sysread(my $answer, 4096);
}
print "1520 are there\n";
exec 'bash', '-c', join ' ', @ARGV;
END

sub crowded {
    my ($name) = @_;
    is(host("ulimit -n 4096; perl /root/crowd '$health'"),
       "1520 are there\n200", "$name: 1520 idle connections, and /healthz");
}

sub is_served {
    my ($form) = @_;
    my $pid;

    succeeds("$form: a restart", 'nginx -t -q && systemctl restart nginx');
    $pid = serves("$form, restarted");
    succeeds("$form: a reload", 'systemctl reload nginx');
    $pid = serves("$form, reloaded", $pid, 1);
    succeeds("$form: an upgrade", 'invoke-rc.d nginx upgrade');
    $pid = serves("$form, upgraded", $pid);
    succeeds("$form: a reload", 'systemctl reload nginx');
    $pid = serves("$form, reloaded again", $pid, 1);
    crowded($form);
}

glob("$Test::Hatch::build/deb/*.deb")
    or BAIL_OUT("no packages: make deb");
is(system($host, 'up') >> 8, 0, 'a Debian host boots') or BAIL_OUT('no host');
END { system $host, 'down' if -e '/run/hatch-host/name' }
write_file("$root/root/crowd", slurp("$dir/crowd"));

# the module alone, while nginx runs: what the package gives nginx.service is
# there at the next restart
my $reload = 'systemctl show -P NeedDaemonReload nginx';
succeeds('the module', "dpkg -i $build/deb/libnginx-mod-*.deb");
is(host("$reload; systemctl show -P LimitNOFILE nginx"), "no\n65536",
   'systemd knows the descriptors that nginx.service gets');
unlike(host('dpkg -r libnginx-mod-http-hatch'), qr/warning/i,
       'removed without a word');
is(host($reload), 'no', 'which systemd knows, too');
succeeds('dpkg -i', "dpkg -i $build/deb/*.deb");

# One worker: the crowd is not shared.
succeeds('one worker', 'sed -i "s/^worker_processes .*/worker_processes 1;/"'
                       . ' /etc/nginx/nginx.conf');

my $pid;
my $site = '/etc/nginx/sites-available/hatch';
succeeds('a site', "ln -s $site /etc/nginx/sites-enabled/");
is_served('sites-enabled');

succeeds('conf.d', 'mv /etc/nginx/sites-enabled/hatch'
                   . ' /etc/nginx/conf.d/hatch.conf');
is_served('conf.d');

# Removed while nginx cannot do without: it goes on with what it has, and takes
# the new module once that is back.
$pid = serves('conf.d, once more', 0);
like(host('dpkg -r libnginx-mod-http-hatch'),
     qr/nginx would not start again, its configuration needs Hatch/,
     'removed: it says that nginx would not start');
succeeds('back', "dpkg -i $build/deb/libnginx-mod-*.deb");
$pid = serves('back', $pid);
is(host('grep -h "hatch.*(deleted)" /proc/$(cat /run/nginx.pid)/maps'), '',
   'with the new module');
host('truncate -s 0 /var/log/nginx/error.log');

# whoever takes the example as it is has room without a word of systemd's
succeeds('the example', "rm /etc/nginx/conf.d/hatch.conf &&"
         . " sed 's/^worker_processes .*/worker_processes 1;/' $example"
         . ' > /etc/nginx/nginx.conf && mkdir -p'
         . ' /etc/systemd/system/nginx.service.d && ln -s /dev/null'
         . ' /etc/systemd/system/nginx.service.d/hatch.conf &&'
         . ' systemctl daemon-reload');
is_served('nginx.conf.example');

is(host('grep -hE "\[(alert|crit|emerg|error)\]" /var/log/nginx/*'), '',
   'no error in the log');
is(system($host, 'down') >> 8, 0, 'the host ends');

done();
