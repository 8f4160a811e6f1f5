# A target for CloudEvents that needs nothing beyond Debian's perl-base: answers 204 to every request
# and appends a line to the file in its argument.
use strict;
use warnings;
use IO::Socket::INET;

my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1:9000', Listen => 64, ReuseAddr => 1) or die "cannot listen: $!";
while (my $client = $server->accept) {
    my $length = 0;
    while (defined(my $line = <$client>)) {
        $length = $1 if $line =~ /^content-length:\s*(\d+)/i;
        last if $line =~ /^\r?\n$/;
    }
    read $client, my $body, $length;
    if ($length) {
        open my $file, '>>', $ARGV[0] or die "cannot write: $!";
        print $file "event\n";
        close $file;
    }
    print $client "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    close $client;
}
