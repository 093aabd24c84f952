"""The configs of rbjax's runs, one a file: <method>_<dataset>, rpr_<dataset>, evaluate_<suite>."""
