/* Preloaded into Janus, which leaves the loopback interface out when it gathers candidates: hides that it is one, and
 * shows no other. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

int getifaddrs(struct ifaddrs **list)
{
    int (*real)(struct ifaddrs **) = (int (*)(struct ifaddrs **))dlsym(RTLD_NEXT, "getifaddrs");
    int result = real ? real(list) : -1;
    for (struct ifaddrs *one = result ? NULL : *list; one; one = one->ifa_next)
        one->ifa_flags &= strcmp(one->ifa_name, "lo") ? ~(unsigned)IFF_UP : ~(unsigned)IFF_LOOPBACK;
    return result;
}
