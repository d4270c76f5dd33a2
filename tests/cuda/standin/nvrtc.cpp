// A stand-in for libnvrtc.so.13: "compiles" a source to a few bytes that name it, and refuses one that has an include left
// in it, or no kernel. The stand-in driver does not look into images.
#include <cstdio>
#include <cstring>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))
struct Program {
    std::string source, log;
};

EXPORT int nvrtcVersion(int* major, int* minor) {
    *major = 13, *minor = 0;
    return 0;
}
EXPORT int nvrtcCreateProgram(void** program, const char* source, const char*, int, const char* const*,
                              const char* const*) {
    *program = new Program{source, ""};
    return 0;
}
EXPORT int nvrtcCompileProgram(void* program, int, const char* const*) {
    Program& p = *static_cast<Program*>(program);
    const bool good = p.source.find("#include") == std::string::npos && p.source.find("KERNEL(") != std::string::npos;
    if (!good) p.log = "stand-in: an include, or no kernel";
    return good ? 0 : 6;
}
EXPORT int nvrtcGetCUBINSize(void*, size_t* bytes) {
    *bytes = 8;
    return 0;
}
EXPORT int nvrtcGetCUBIN(void*, char* image) {
    std::memcpy(image, "\x7f" "ELFfake", 8);
    return 0;
}
EXPORT int nvrtcGetProgramLogSize(void* program, size_t* bytes) {
    *bytes = static_cast<Program*>(program)->log.size() + 1;
    return 0;
}
EXPORT int nvrtcGetProgramLog(void* program, char* log) {
    std::strcpy(log, static_cast<Program*>(program)->log.c_str());
    return 0;
}
EXPORT int nvrtcDestroyProgram(void** program) {
    delete static_cast<Program*>(*program);
    return 0;
}
EXPORT const char* nvrtcGetErrorString(int) { return "NVRTC_ERROR_COMPILATION"; }
