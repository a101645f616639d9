package Test::Hatch::Container;

# The container images, run by podman in the test's own world.
#
#   use Test::Hatch world => 'plain';
#   use Test::Hatch::Container;
#
# `make test-container` builds the images (util/build-container); they are read
# where they lie, and all that podman writes is in $dir: containers, networks,
# settings, what is new in /var/lib, and cgroups below one of the test's own.  What the containers say is
# asserted to be clean like any log: end a test with all_done().

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use Test::Hatch;
use Test::More;

our @EXPORT = qw(
    podman run_container remove container_log container_state exit_code inside
    documented outside outside_get curl all_done
);

my $storage = "$Test::Hatch::build/container/storage";
my $owner = $$;
my (%logged, $outside);


if (!$ENV{HATCH_CGROUPS}) {
    $ENV{HATCH_CGROUPS} = 1;
    exec "$top/t/lib/cgroups", $^X, "-I$top/t/lib", abs_path($0), @ARGV
        or die "cannot run t/lib/cgroups: $!";
}


sub run_or_die {
    my $out = qx(@_ 2>&1);
    die "@_: $out" if $?;
}


# --- a world for podman ---

sub setup {
    die "there are no images, `make test-container` builds them\n"
        if !-e "$storage/overlay-images/images.json";
    mkdir "$dir/$_" for qw(podman lib lib/up lib/work);

    # podman has a cache in /var/lib whatever its settings are; and containers
    # of the host's libvirt have /var/lib/hatch, there or not
    run_or_die($_) for
        'mount -n -t overlay overlay /var/lib -o lowerdir=/var/lib,'
        . "upperdir=$dir/lib/up,workdir=$dir/lib/work",
        'mount -n --bind /run/world/var/lib/libvirt /var/lib/libvirt',
        'mkdir -p /var/lib/hatch',
        'mount -n -t tmpfs -o mode=755 tmpfs /var/lib/hatch';

    $ENV{CONTAINERS_CONF} = "$dir/podman/containers.conf";
    $ENV{CONTAINERS_STORAGE_CONF} = "$dir/podman/storage.conf";
    write_file($ENV{CONTAINERS_CONF}, <<"EOF");
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
tmp_dir = "$dir/podman/libpod"
[network]
network_backend = "netavark"
network_config_dir = "$dir/podman/networks"
EOF
    write_file($ENV{CONTAINERS_STORAGE_CONF}, <<"EOF");
[storage]
driver = "overlay"
graphroot = "$dir/podman/storage"
runroot = "$dir/podman/run"
[storage.options]
additionalimagestores = ["$storage"]
EOF
}


# What podman answers, without the newline at its end; undef if it fails.
sub podman {
    my $out = qx(podman @_ 2>>'$dir/podman/errors');
    chomp $out;
    return $? == 0 ? $out : undef;
}


# run_container(NAME, ARGUMENTS AND IMAGE): starts one, in the background.
sub run_container {
    my ($name, $arguments) = @_;
    my $id = podman("run -d --name $name $arguments");

    $logged{$name} = 1;
    diag(slurp("$dir/podman/errors")) if !defined $id;
    return $id;
}


# What docs/containers.md has behind "podman run -d --name hatch": the command
# that ends as told, in one line.
sub documented {
    my ($end) = @_;
    my $docs = slurp("$top/docs/containers.md") =~ s/\\\n\s*//gr;
    my @found = grep /$end/,
                $docs =~ /^    # podman run -d --name hatch (.*)$/mg;
    is(scalar @found, 1, "docs/containers.md has one command, $end");
    return $found[0];
}


# Takes its log first.
sub remove {
    for my $name (@_) {
        write_file("$dir/logs/$name.log", container_log($name));
        podman("rm -f -t 12 $name");
        delete $logged{$name};
    }
}


sub container_log { return scalar qx(podman logs $_[0] 2>&1) }


sub container_state {
    return podman("inspect -f '{{.State.Status}}' $_[0]") // 'none';
}


# How a container ended; undef if it does not.
sub exit_code {
    my ($name, $seconds) = @_;
    wait_until("$name ends", sub { container_state($name) eq 'exited' },
               $seconds // 20) or return;
    return podman("inspect -f '{{.State.ExitCode}}' $name");
}


# A command in a container.
sub inside {
    my ($name, $command) = @_;
    my $out = qx(podman exec $name $command 2>&1);
    chomp $out;
    return $out;
}


# --- who asks ---

# What curl gets: status and body.
sub curl {
    my ($arguments, $before) = @_;
    my $out = qx(@{[$before // '']} curl -s -m 60 -w '\\n%{http_code}' $arguments);
    my ($body, $status) = $out =~ /\A(.*)\n(\d{3})\z/s;
    return { status => $status // '000', body => $body // '' };
}


# Another machine on the network of this one, which is 192.0.2.1 to it.
sub outside {
    my ($command) = @_;

    if (!$outside) {
        run_or_die($_) for
            'ip netns add outside',
            'ip link add outside0 type veth peer name eth0 netns outside',
            'ip addr add 192.0.2.1/24 dev outside0',
            'ip link set outside0 up',
            'ip -n outside addr add 192.0.2.2/24 dev eth0',
            'ip -n outside link set eth0 up',
            'ip -n outside link set lo up';
        $outside = 1;
    }

    return "ip netns exec outside $command";
}


sub outside_get {
    my ($path, $arguments) = @_;
    my ($port) = $path =~ s/^:(\d+)// ? $1 : 8080;
    return curl("@{[$arguments // '']} http://192.0.2.1:$port$path",
                outside(''));
}


# Removes the containers, and then as done().
sub all_done {
    remove(keys %logged);
    done();
}


END {
    if ($$ == $owner && -d "$dir/podman") {
        my $status = $?;
        remove(keys %logged);
        podman('pod rm -f -a');
        podman('rm -f -a');
        $? = $status;
    }
}

setup();

1;
