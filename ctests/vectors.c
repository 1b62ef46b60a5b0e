/* Every gw_* and bad_gw_* vector of the specification, both ways through hail_decode and hail_encode. The directory is
 * beside the project, or where HAILPOST_SHARED says. */
#include "check.h"

static size_t read_hex(const char *path, uint8_t *octets, size_t most)
{
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    size_t count = 0;
    unsigned octet;
    while (fscanf(file, "%2x", &octet) == 1) {
        CHECK(count < most);
        octets[count++] = (uint8_t)octet;
    }
    fclose(file);
    return count;
}

int main(void)
{
    static uint8_t octets[70000];
    const char *shared = getenv("HAILPOST_SHARED");
    char path[4096], line[1024];
    int good = 0, bad = 0;
    snprintf(path, sizeof path, "%s/spec/vectors/vectors.tsv", shared != NULL ? shared : "../shared");
    FILE *table = fopen(path, "r");
    if (table == NULL) {
        printf("SKIPPED: no test vectors at %s (set HAILPOST_SHARED)\n", path);
        return 0;
    }
    while (fgets(line, sizeof line, table) != NULL) {
        char *columns[6], *rest = line;
        for (int at = 0; at < 6; at++)
            columns[at] = strsep(&rest, "\t");
        if (strncmp(columns[0], "gw_", 3) != 0 && strncmp(columns[0], "bad_gw_", 7) != 0)
            continue;
        snprintf(path, sizeof path, "%s/spec/vectors/%s", shared != NULL ? shared : "../shared", columns[0]);
        size_t size = read_hex(path, octets, sizeof octets);
        CHECK_IS(size, atoi(columns[4]));
        const char *kind = strcmp(columns[2], "IPv6") == 0 ? "gateway6" : "gateway";
        hail_buffer *json = NULL, *again = NULL, *detail = NULL;
        hail_status status = hail_decode(kind, octets, size, &json, &detail);
        if (strcmp(columns[5], "ok") == 0) {
            CHECK(status == HAIL_OK && detail == NULL);
            CHECK_IS(hail_encode(kind, (const char *)hail_buffer_data(json), &again, NULL), HAIL_OK);
            CHECK(hail_buffer_size(again) == size && memcmp(hail_buffer_data(again), octets, size) == 0);
            good++;
        } else {
            CHECK_IS(status, HAIL_ERR_MALFORMED);
            CHECK(json == NULL && strstr((const char *)hail_buffer_data(detail), columns[5]) != NULL);
            bad++;
        }
        hail_buffer_free(json);
        hail_buffer_free(again);
        hail_buffer_free(detail);
    }
    fclose(table);
    printf("%d good and %d bad vectors\n", good, bad);
    CHECK(good == 33 && bad == 7);
    return 0;
}
