/* Line ends of another system stay as they are. */
int twice(int number)
{
    return number + number;
}
