"""Many runs: papermill and Dask, and the check of recorded numbers."""
