"""Why branches specialise: sections 4 to 6 of the paper, and four more papers, as experiments to rerun.

A branched model sums M identical sub-networks that differ only by their initialisation, f(x) = sum_k v_k(x; theta_k).
The gradient of branch k is its own Jacobian (the distributive part) times the common dL/df (the collaborative part),
and the Hessian between two branches contains both Jacobians, so that it vanishes where the distributive part does.

| file | what |
| --- | --- |
| branched.py | the sum of M sub-networks |
| measures.py | response matrix, covariance, active branches, confidence, the gradient's two factors |
| hessian.py | the Hessian in blocks, a block for each pair of branches |
| cifar/ | CIFAR-10, slim ResNet-18 branches, one training |
| specialization/toy*.py | M scalar units on four points, a thousand runs at once |
| specialization/classification.py | the experiment on CIFAR-10 and its claims |
| specialization/channels.py | the same measures for the channels of a trained decomp model |
| distill/ | the test of Voss et al. on the first two layers of a network |
| coded/ | Coded ResNeXt: which branches serve which class is fixed beforehand |
| decoupling/ | dynamic decoupling: a gate picks, for each image, which filters run |
| factorization/ | knowledge factorization: a teacher becomes one common and several task networks |
| generator/ | codes and gates on the image generator |
| resume.py | work that is stopped and goes on |
| figures.py, *_figures.py, plots.py | what is drawn |
| findings.py, report.py | what each experiment leaves behind, and one page with all of them |
"""
