#include <stdio.h>

/* Says how much room is left in a shell of a given radius. */
int main(int count, char **words)
{
    double radius = count > 1 ? 2.5 : 1.0;
    printf("%s has %.2f cubic centimetres\n", words[0], 4.18879 * radius * radius * radius);
    return 0;
}
