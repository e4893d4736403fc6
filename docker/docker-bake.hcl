// Both images with BuildKit, from the repository's root: docker buildx bake -f docker/docker-bake.hcl
// The runtime's build context is written first, for both platforms (docker/README.md):
//   edgecompress image runs/quickstart/bundle --context-only build/image --fetch \
//       --platform linux/amd64 --platform linux/arm64

variable "RUNTIME_CONTEXT" { default = "build/image" }
variable "RUNTIME_IMAGE" { default = "edgecompress-runtime" }
variable "BUILDER_IMAGE" { default = "edgecompress-builder" }
variable "SOURCE_DATE_EPOCH" { default = "315532800" }

group "default" {
  targets = ["runtime", "builder"]
}

target "runtime" {
  context    = RUNTIME_CONTEXT
  tags       = [RUNTIME_IMAGE]
  platforms  = ["linux/amd64", "linux/arm64"]
  args       = { SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH }
  // No attestations and no times of the build: the same files make the same image.
  attest     = ["type=provenance,disabled=true", "type=sbom,disabled=true"]
  output     = ["type=oci,dest=build/runtime.tar,rewrite-timestamp=true"]
}

target "builder" {
  context    = "."
  dockerfile = "docker/builder.Dockerfile"
  tags       = [BUILDER_IMAGE]
  platforms  = ["linux/amd64"]
  args       = { SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH }
  attest     = ["type=provenance,disabled=true", "type=sbom,disabled=true"]
  output     = ["type=docker"]
}
