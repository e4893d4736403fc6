"""Container images of bundles: the build context, the engines that build it, our own wheel."""
