# Grüße für König und Königin, höflich übermittelt
use strict;
use warnings;

my %gruß = (
    morgen => "Schönen guten Morgen",
    abend  => "Schönen Abend noch",
);
for my $zeit (sort keys %gruß) {
    print "$zeit: $gruß{$zeit}\n";
}
