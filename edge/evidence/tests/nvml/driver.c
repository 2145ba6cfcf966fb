/* A stand-in for NVIDIA's management library, for one GPU that answers from two files. Names, order and
   types of fields: NVIDIA Management Library reference guide, "Confidential Computing definitions"; the
   C compiler lays them out, not our own code. What is scripted comes by -D:
   FILES   folder with `report` and `chain`
   GPUS    how many GPUs there are
   FEATURE, DEVTOOLS   the modes
   CODE    what signing answers; 0 is success
   MORE    how much longer than it is the report is said to be
   LACKS   without the function that signs, as in old drivers */

#include <stdio.h>
#include <string.h>

typedef struct {
    unsigned int environment, ccFeature, devToolsMode;
} SystemState;

typedef struct {
    unsigned int certChainSize, attestationCertChainSize;
    unsigned char certChain[0x1000], attestationCertChain[0x1400];
} Certificate;

typedef struct {
    unsigned int isCecAttestationReportPresent, attestationReportSize, cecAttestationReportSize;
    unsigned char nonce[0x20], attestationReport[0x2000], cecAttestationReport[0x1000];
} Report;

static int gpu, is_started;

static unsigned int content(const char *path, unsigned char *to, size_t room) {
    FILE *file = fopen(path, "rb");
    size_t len = file ? fread(to, 1, room, file) : 0;
    if (file) fclose(file);
    return (unsigned int)len;
}

int nvmlInit_v2(void) {
    is_started = 1;
    return 0;
}

/* 1: not initialised. */
int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = GPUS;
    return is_started ? 0 : 1;
}

/* 2: invalid argument. */
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = &gpu;
    return index < GPUS ? 0 : 2;
}

int nvmlSystemGetConfComputeState(SystemState *state) {
    state->environment = 2;
    state->ccFeature = FEATURE;
    state->devToolsMode = DEVTOOLS;
    return 0;
}

int nvmlDeviceGetConfComputeGpuCertificate(void *device, Certificate *certificate) {
    memset(certificate->certChain, 0x55, sizeof certificate->certChain);
    certificate->certChainSize = 7;
    /* The driver counts the end of the string. */
    certificate->attestationCertChainSize =
        content(FILES "/chain", certificate->attestationCertChain, 0x1400 - 1) + 1;
    return device == &gpu ? 0 : 2;
}

#ifndef LACKS
int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, Report *report) {
    unsigned char nonce[0x20];
    /* The report is for the nonce at its fifth byte; for another the GPU has no answer here. */
    report->attestationReportSize = content(FILES "/report", report->attestationReport, 0x2000) + MORE;
    memcpy(nonce, report->attestationReport + 4, sizeof nonce);
    if (device != &gpu || memcmp(nonce, report->nonce, sizeof nonce) != 0) return 2;
    report->isCecAttestationReportPresent = 1;
    report->cecAttestationReportSize = 0x1000;
    memset(report->cecAttestationReport, 0x66, 0x1000);
    return CODE;
}
#endif
